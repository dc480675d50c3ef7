#include "extents.h"
