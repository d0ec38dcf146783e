/* The second program of the chain: leaves by execveat. */
#include "sys.h"

int program(char **argv)
{
	char path[4096];
	char *next[] = { beside(argv[0], "chain3", path), 0 };

	sys0(104);							/* getgid */
	sys6(322, -100, (long)path, (long)next, 0, 0, 0);		/* execveat */
	return 1;
}
