/* Segments and the kernel's page tables, written while they are assembled: nothing of it costs time at boot.
 * It never maps anything for ring 3.
 *
 * The kernel's addresses are physical ones. Page 0 is not mapped, so that a null pointer faults. */

#define P 1
#define W 2
#define UNCACHED 0x18
#define LARGE 0x80
#define NX 0x8000000000000000

.section .data
.globl gdt, gdt_pointer, tss
.balign 16
gdt:
	.quad 0
	.quad 0x00af9b000000ffff /* 0x08: ring-0 code */
	.quad 0x00cf93000000ffff /* 0x10: ring-0 data */
	.quad 0x00cff3000000ffff /* 0x18: ring-3 data */
	.quad 0x00affb000000ffff /* 0x20: ring-3 code */
	.quad 0, 0               /* 0x28: the task-state segment; boot.c knows where it is */
gdt_pointer:
	.word gdt_pointer - gdt - 1
	.quad gdt
.type gdt, @object
.size gdt, 56

.balign 16
tss:
	.skip 36
	.quad double_fault_stack_top
	.skip 102 - 44
	.word 104 /* the map of ports is past the end: none is ring 3's */
.type tss, @object
.size tss, 104

.section .tables, "aw"
.globl kernel_pml4, kernel_pdpt, low_pd, low_pt, device_pd
.macro table name
	.balign 4096
	.type \name, @object
	.size \name, 4096
\name:
.endm

table kernel_pml4
	.quad kernel_pdpt + P + W
	.skip 511 * 8

table kernel_pdpt
	.quad low_pd + P + W
	.quad 0, 0
	.quad device_pd + P + W
	.skip 508 * 8

/* RAM up to 1 GiB */
table low_pd
	.quad low_pt + P + W
	.set n, 1
	.rept 511
	.quad NX + (n << 21) + LARGE + W + P
	.set n, n + 1
	.endr

/* its first 2 MiB, where the kernel is, in small pages; boot.c lets code be executed */
table low_pt
	.quad 0
	.set n, 1
	.rept 511
	.quad NX + (n << 12) + W + P
	.set n, n + 1
	.endr

/* the fourth GiB: the test card, the I/O APIC, the local APIC */
table device_pd
	.skip 0x1f5 * 8
	.quad NX + 0xfea00000 + LARGE + UNCACHED + W + P
	.quad NX + 0xfec00000 + LARGE + UNCACHED + W + P
	.quad NX + 0xfee00000 + LARGE + UNCACHED + W + P
	.skip (512 - 0x1f8) * 8

.section .note.GNU-stack, "", @progbits
