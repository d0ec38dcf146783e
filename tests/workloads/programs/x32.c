/* x32 numbers (bit 30) from a 64-bit program; the kernel answers ENOSYS where it is built without x32. */
#include "sys.h"

#define X32 0x40000000

int program(char **argv)
{
	(void)argv;
	call_23_times(X32 | 110);	/* getppid */
	sys0(X32 | 39);			/* getpid */
	sys3(X32 | 512, -1, 0, 0);	/* rt_sigaction, a number that only x32 has: EINVAL */
	sys0(102);			/* getuid of x86_64 */
	return 0;
}
