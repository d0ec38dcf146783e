/* A chain of programs: tries one that does not exist, then executes chain2, which executes chain3. */
#include "sys.h"

int program(char **argv)
{
	char path[4096];
	char *next[] = { beside(argv[0], "chain2", path), 0 };

	call_23_times(110);				/* getppid */
	sys3(59, (long)"/nonexistent", (long)next, 0);	/* execve: ENOENT */
	sys0(102);					/* getuid */
	sys3(59, (long)path, (long)next, 0);		/* execve */
	return 1;
}
