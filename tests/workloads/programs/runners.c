/* As many lines of processes as its argument says, each faster than whoever lists it: a process forks the next and ends. For ever;
 * as the first process of a pid namespace this one reaps them, and its end is theirs. */
#include "sys.h"

int program(char **argv)
{
	for (long lines = number(argv[1]); lines; lines--) {
		if (sys0(57) == 0) {				/* fork */
			for (;;) {
				if (sys0(57) > 0)
					sys1(60, 0);		/* exit */
			}
		}
	}
	for (;;)
		sys6(61, -1, 0, 0, 0, 0, 0);			/* wait4 */
}
