/* The third program of the chain: leaves for a 32-bit one. */
#include "sys.h"

int program(char **argv)
{
	char path[4096];
	char *next[] = { beside(argv[0], "i386", path), 0 };

	sys0(107);					/* geteuid */
	sys3(59, (long)path, (long)next, 0);		/* execve: enters as 59, leaves as 11 */
	return 1;
}
