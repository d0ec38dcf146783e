/* i386 calls by int 0x80 from a 64-bit program, between calls of its own ABI. */
#include "sys.h"

int program(char **argv)
{
	(void)argv;
	for (int i = 0; i < 23; i++)
		int80(64, 0, 0, 0, 0, 0);	/* getppid */
	sys0(102);				/* getuid of x86_64 */
	int80(20, 0, 0, 0, 0, 0);		/* getpid */
	int80(54, -1, 0, 0, 0, 0);		/* ioctl: EBADF; 54 is setsockopt to x86_64 */
	return 0;
}
