/* Threads without a C library: clone(2) and nothing else. Needs sys.h. */

#define STACK 16384

/* Runs fn(arg) on a thread of its own, which must end by exit(2), not by returning. The kernel clears *tid when it has ended. */
long thread(void (*fn)(void *), void *arg, char *top_of_stack, volatile int *tid);

/* CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM | CHILD_CLEARTID */
__asm__("thread:\n"
	"	sub $16, %rdx\n"
	"	mov %rdi, (%rdx)\n"
	"	mov %rsi, 8(%rdx)\n"
	"	mov $0x250f00, %edi\n"
	"	mov %rdx, %rsi\n"
	"	xor %edx, %edx\n"
	"	mov %rcx, %r10\n"
	"	xor %r8d, %r8d\n"
	"	mov $56, %eax\n"
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jnz 1f\n"
	"	xor %ebp, %ebp\n"
	"	pop %rax\n"
	"	pop %rdi\n"
	"	call *%rax\n"
	"	ud2\n"
	"1:	ret\n");
