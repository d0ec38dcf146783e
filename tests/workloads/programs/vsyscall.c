/* gettimeofday by the vsyscall page: it asks the filter, and enters the kernel by a fault. The value is 1 if it was denied. */
#include "sys.h"

int program(char **argv)
{
	long time[2] = { 0, 0 };
	long (*gettimeofday)(long *, void *) = (long (*)(long *, void *))0xffffffffff600000ul;

	(void)argv;
	return gettimeofday(time, 0) != 0;
}
