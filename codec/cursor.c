#include "cursor.h"
