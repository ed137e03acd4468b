/* Native handlers as tests/kvm/test_native_handlers.py registers them. */
#include <belljar.h>
#include <stddef.h>
#include <string.h>

#define AT(field, offset) _Static_assert(offsetof(struct belljar_exit, field) == (offset), #field)
AT(version, 0);
AT(bytes, 4);
AT(kind, 8);
AT(vcpu, 12);
AT(address, 16);
AT(data, 24);
AT(size, 32);
AT(count, 36);
AT(string, 40);
AT(string_bytes, 48);
AT(read, 56);
AT(write, 64);
AT(guest, 72);
AT(has_registers, 80);
AT(registers, 88);
_Static_assert(sizeof(struct belljar_exit) == 232, "size");
_Static_assert(sizeof(belljar_handler) == 8, "pointer");

/* Keeps the last exit in *user_data. */
int32_t keep(struct belljar_exit *exit, void *user_data)
{
	memcpy(user_data, exit, sizeof *exit);
	return BELLJAR_CONTINUE;
}

/* Answers reads with the port or address plus one, and drops writes. */
int32_t answer(struct belljar_exit *exit, void *user_data)
{
	(void)user_data;
	if (exit->string)
		memset(exit->string, 'x', exit->string_bytes);
	exit->data = exit->address + 1;
	return BELLJAR_DONE;
}

/* Returns *user_data, and counts in the next word. */
int32_t say(struct belljar_exit *exit, void *user_data)
{
	int32_t *words = user_data;
	(void)exit;
	words[1]++;
	return words[0];
}

/* Doubles the 64-bit word that RBX points to, and adds 0x10 to RBX; RCX becomes what reading beyond memory returns. */
int32_t work(struct belljar_exit *exit, void *user_data)
{
	uint64_t word = 0;
	(void)user_data;
	if (!exit->has_registers)
		return 99;
	exit->read(exit, exit->registers[BELLJAR_RBX], &word, sizeof word);
	word *= 2;
	exit->write(exit, exit->registers[BELLJAR_RBX], &word, sizeof word);
	exit->registers[BELLJAR_RBX] += 0x10;
	exit->registers[BELLJAR_RCX] = (uint64_t)(int64_t)(
		exit->read(exit, 0x70000000, &word, sizeof word) + exit->write(exit, 0x70000000, &word, sizeof word) +
		exit->read(exit, 0x1000, NULL, 1) + exit->read(exit, 0x1000, &word, ~0ull) + exit->read(exit, ~0ull, NULL, 0));
	return BELLJAR_CONTINUE;
}
