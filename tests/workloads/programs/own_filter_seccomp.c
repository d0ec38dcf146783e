/* A program that installs its own filter by seccomp(2). */
#include "sys.h"
#include "own_filter.h"

int program(char **argv)
{
	(void)argv;
	if (sys6(157, 38, 1, 0, 0, 0, 0))			/* prctl PR_SET_NO_NEW_PRIVS */
		return 1;
	if (sys3(317, 1, 0, (long)&filter_program))		/* seccomp SECCOMP_SET_MODE_FILTER */
		return 2;
	return behind_the_filter();
}
