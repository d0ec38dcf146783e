/* vfork: the child, on its parent's stack, executes this program again with an argument. */
#include "sys.h"

int program(char **argv)
{
	char *again[] = { argv[0], "again", 0 };
	long child;

	if (argv[1]) {
		sys0(102);			/* getuid */
		return 0;
	}
	/* In assembler, so that the child writes nothing to the stack that it shares. */
	__asm__ volatile("	mov $58, %%eax\n"	/* vfork */
			 "	syscall\n"
			 "	test %%rax, %%rax\n"
			 "	jnz 2f\n"
			 "	mov $23, %%ebx\n"
			 "1:	mov $110, %%eax\n"	/* getppid */
			 "	syscall\n"
			 "	dec %%ebx\n"
			 "	jnz 1b\n"
			 "	xor %%edx, %%edx\n"
			 "	mov $59, %%eax\n"	/* execve */
			 "	syscall\n"
			 "	mov $1, %%edi\n"
			 "	mov $60, %%eax\n"	/* exit, when the execve failed */
			 "	syscall\n"
			 "2:\n"
			 : "=a"(child)
			 : "D"(argv[0]), "S"(again)
			 : "rbx", "rcx", "rdx", "r11", "memory");
	return child < 0 || sys6(61, child, 0, 0, 0, 0, 0) != child;	/* wait4 */
}
