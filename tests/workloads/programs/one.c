/* `one ABI NUMBER`: exactly that call with arguments of -1, by x86_64 ("x86_64", which is also x32 with bit 30) or "i386". */
#include "sys.h"

int program(char **argv)
{
	long nr = number(argv[2]);

	if (argv[1][0] == 'i')
		int80(nr, -1, -1, -1, -1, -1);
	else
		sys6(nr, -1, -1, -1, -1, -1, -1);
	return 0;
}
