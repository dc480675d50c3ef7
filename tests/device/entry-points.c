/* SPDX-License-Identifier: MIT */
/* Prints the exported name of every entry point of the driver that devices/ asks for. */
#include <stdio.h>

#include "devices/cuda_driver.h"

int main(void)
{
#define F(member, name, parameters) puts(#name);
	DEV_CUDA_FUNCTIONS(F)
	DEV_CUDA_OPTIONAL_FUNCTIONS(F)
	puts("cuGetProcAddress");
	puts("cuGetProcAddress_v2");
	return 0;
}
