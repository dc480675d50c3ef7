#include "edit.h"
