/* The first instructions, and the way into the kernel and out of it. It never decides anything.
 *
 * It is linked at a multiple of 64 KiB, so that tables.S can write the interrupt table while it is assembled: a gate
 * holds the two halves of a handler's address apart.
 *
 * An interrupt of ring 3 pushes its registers into `struct task` itself, since TSS.RSP0 points behind `frame`. The kernel
 * then uses the one stack that there is. It never sleeps in there: who has to wait is put to sleep, and what it waits
 * for is written into its frame later. */

.intel_syntax noprefix
#define KERNEL_CODE 0x08
#define CS_IN_FRAME 144

.section .entry, "ax"
.globl _start, entry_base, trap_common, idle, resume
entry_base:

.macro handler number, has_error
	.balign 16
stub_\number:
	.if \has_error == 0
	push 0
	.endif
	push \number
	jmp trap_common
.type stub_\number, @function
.size stub_\number, . - stub_\number
.endm

.altmacro
.macro handlers first, last
	.set n, \first
	.rept \last - \first + 1
	handler %n, %((n == 8) || (n >= 10 && n <= 14) || (n == 17) || (n == 21) || (n == 29) || (n == 30))
	.set n, n + 1
	.endr
.endm

handlers 0, 255

	.balign 16
trap_common:
	push rax
	push rbx
	push rcx
	push rdx
	push rsi
	push rdi
	push rbp
	push r8
	push r9
	push r10
	push r11
	push r12
	push r13
	push r14
	push r15
	cld
	mov rdi, rsp
	test byte ptr [rsp + CS_IN_FRAME], 3
	jz 1f
	mov esp, offset kernel_stack_top
1:	and rsp, -16
	call trap
resume: /* RAX: the frame to go on with, or 0 for none */
	test rax, rax
	jz idle
	mov rsp, rax
	pop r15
	pop r14
	pop r13
	pop r12
	pop r11
	pop r10
	pop r9
	pop r8
	pop rbp
	pop rdi
	pop rsi
	pop rdx
	pop rcx
	pop rbx
	pop rax
	add rsp, 16
	iretq
.type trap_common, @function
.size trap_common, . - trap_common

	.balign 16
idle: /* nothing of it is worth keeping: each interrupt begins it anew */
	mov esp, offset kernel_stack_top
1:	sti
	hlt
	jmp 1b
.type idle, @function
.size idle, . - idle

	.balign 16
_start:
	cli
	cld
	mov esp, offset kernel_stack_top
	lgdt [gdt_pointer]
	lidt [idt_pointer]
	push KERNEL_CODE
	lea rax, 1f
	push rax
	retfq
1:	mov eax, 0x10
	mov ss, eax
	mov eax, 0x1b
	mov ds, eax
	mov es, eax
	xor eax, eax
	mov fs, eax
	mov gs, eax
	xor ebp, ebp
	call boot
	jmp resume
.type _start, @function
.size _start, . - _start

/* The interrupt table, made of the places of the handlers above. */
.section .idt, "a"
.globl idt, idt_pointer
	.balign 16
idt:
.macro gate number, stack, attributes
	.word stub_\number - entry_base
	.word KERNEL_CODE
	.byte \stack, \attributes
	.word 0x10 /* entry_base >> 16 */
	.quad 0
.endm
	.set n, 0
	.rept 256
	.if n == 4
	gate %n, 0, 0xee /* ring 3 may call it */
	.elseif n == 8
	gate %n, 1, 0x8e /* a stack of its own: the other one may be the reason */
	.else
	gate %n, 0, 0x8e
	.endif
	.set n, n + 1
	.endr
idt_pointer:
	.word 256 * 16 - 1
	.quad idt
.type idt, @object
.size idt, 256 * 16

.section .bss
.globl kernel_stack, kernel_stack_top, double_fault_stack_top
	.balign 16
	.skip 1024
double_fault_stack_top:
kernel_stack:
	.skip 8192
kernel_stack_top:
.type kernel_stack, @object
.size kernel_stack, 8192

.section .note.GNU-stack, "", @progbits
