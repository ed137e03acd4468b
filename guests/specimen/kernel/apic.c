/* The local APIC with its timer, and the I/O APIC (Intel SDM vol. 3, 11; 82093AA). It never says what an interrupt
 * is for. */
#include "kernel.h"

#define LOCAL_APIC 0xfee00000UL
#define EOI 0x0b0
#define SPURIOUS 0x0f0
#define ENABLED 0x100
#define LVT_TIMER 0x320
#define INITIAL_COUNT 0x380
#define DIVIDE 0x3e0
#define PERIODIC (1 << 17)
#define BY_ONE 0xb

#define IO_APIC 0xfec00000UL
#define WINDOW 0x10
#define LEVEL (1 << 15)

/* KVM's timer counts nanoseconds. */
void apic_init(void)
{
	mmio_write(LOCAL_APIC + SPURIOUS, ENABLED | VECTOR_SPURIOUS);
	mmio_write(LOCAL_APIC + DIVIDE, BY_ONE);
	mmio_write(LOCAL_APIC + LVT_TIMER, PERIODIC | VECTOR_TIMER);
	mmio_write(LOCAL_APIC + INITIAL_COUNT, (u32)boot_options.tick_ns);
}

void apic_eoi(void)
{
	mmio_write(LOCAL_APIC + EOI, 0);
}

static void ioapic_write(u32 number, u32 value)
{
	mmio_write(IO_APIC, number);
	mmio_write(IO_APIC + WINDOW, value);
}

/* Has level-triggered, active-high `pin` interrupt processor 0 at `vector`. */
void ioapic_route(u32 pin, u32 vector)
{
	ioapic_write(0x11 + 2 * pin, 0);
	ioapic_write(0x10 + 2 * pin, LEVEL | vector);
}
