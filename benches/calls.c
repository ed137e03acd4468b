// The cheapest way to call a Python function from C, over and over. Declared here instead of by Python.h, so that it
// needs no headers and one build serves each interpreter; it never releases the GIL.

#include <stddef.h>
#include <stdint.h>

typedef struct object object;
extern object *PyObject_Vectorcall(object *callable, object *const *arguments, size_t count, object *names);
extern void Py_DecRef(object *value);

/// Calls `callable(argument)` `times` over. 0, or -1 with the exception set.
int call(object *callable, object *argument, uint64_t times) {
    // One place before the arguments belongs to the callee (PY_VECTORCALL_ARGUMENTS_OFFSET).
    object *arguments[2] = {NULL, argument};
    const size_t count = 1 | (size_t)1 << (8 * sizeof(size_t) - 1);
    for (uint64_t n = 0; n < times; n++) {
        object *result = PyObject_Vectorcall(callable, arguments + 1, count, NULL);
        if (result == NULL) return -1;
        Py_DecRef(result);
    }
    return 0;
}
