/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codec/object/dtype.h"

static void table_is_whole(void **state)
{
	for (int d = 1; d < WF_DTYPE_COUNT; d++) {
		const struct wf_dtype_info *i = wf_dtype_info(d);
		bool untyped;
		assert_non_null(i->name);
		assert_int_equal(wf_dtype_from_name(i->name), d);
		assert_true(i->size_bytes >= 1 && i->size_bytes <= 16);
		assert_int_equal(i->size_bytes % i->swap_bytes, 0);
		assert_true(i->swap_bytes <= 8);
		if (i->storage_class) {
			assert_int_equal(wf_dtype_from_storage_class(i->storage_class, &untyped), d);
			assert_false(untyped);
		}
		if (i->tensor_class)
			assert_int_equal(wf_dtype_from_tensor_class(i->tensor_class), d);
		if (i->quantised)
			assert_non_null(i->storage_class);
		assert_int_equal(i->element == WF_ELEMENT_COMPLEX, strstr(i->name, "complex") != NULL);
		assert_int_equal(i->element == WF_ELEMENT_FLOAT, strstr(i->name, "float") != NULL);
		assert_int_equal(i->part != WF_DTYPE_INVALID, i->element == WF_ELEMENT_COMPLEX);
		if (i->part)
			assert_int_equal(2 * wf_dtype_info(i->part)->size_bytes, i->size_bytes);
		assert_int_equal(wf_dtype_takes_grad(d), strstr(i->name, "complex") || strstr(i->name, "float"));
	}
	assert_false(wf_dtype_takes_grad(WF_DTYPE_INVALID));
	assert_string_equal(wf_dtype_info(WF_DTYPE_INVALID)->name, "invalid");
	assert_int_equal(wf_dtype_info(WF_DTYPE_INVALID)->size_bytes, 0);
	assert_ptr_equal(wf_dtype_info(WF_DTYPE_COUNT), wf_dtype_info(WF_DTYPE_INVALID));
}

static void names(void **state)
{
	assert_int_equal(wf_dtype_from_name("torch.bfloat16"), WF_BFLOAT16);
	assert_int_equal(wf_dtype_from_name("half"), WF_FLOAT16);
	assert_int_equal(wf_dtype_from_name("long"), WF_INT64);
	assert_int_equal(wf_dtype_from_name("torch.cdouble"), WF_COMPLEX128);
	assert_int_equal(wf_dtype_from_name("invalid"), WF_DTYPE_INVALID);
	assert_int_equal(wf_dtype_from_name("float33"), WF_DTYPE_INVALID);
	assert_int_equal(wf_dtype_from_name("torch.torch.float32"), WF_DTYPE_INVALID);
	assert_int_equal(wf_dtype_from_name(""), WF_DTYPE_INVALID);
}

static void storage_classes(void **state)
{
	bool untyped;

	assert_int_equal(wf_dtype_from_storage_class("UntypedStorage", &untyped), WF_UINT8);
	assert_true(untyped);
	assert_int_equal(wf_dtype_from_storage_class("_UntypedStorage", &untyped), WF_UINT8);
	assert_true(untyped);
	assert_int_equal(wf_dtype_from_storage_class("Float8_e4m3fnStorage", &untyped), WF_FLOAT8_E4M3FN);
	assert_false(untyped);
	assert_int_equal(wf_dtype_from_storage_class("Float4_e2m1fn_x2Storage", &untyped), WF_FLOAT4_E2M1FN_X2);
	assert_int_equal(wf_dtype_from_storage_class("UInt16Storage", &untyped), WF_UINT16);
	assert_int_equal(wf_dtype_from_storage_class("ComplexHalfStorage", &untyped), WF_COMPLEX32);
	assert_int_equal(wf_dtype_from_storage_class("Float32Storage", &untyped), WF_DTYPE_INVALID);
	assert_int_equal(wf_dtype_from_storage_class("Storage", &untyped), WF_DTYPE_INVALID);
	assert_int_equal(wf_dtype_from_storage_class("FloatTensor", &untyped), WF_DTYPE_INVALID);
	assert_int_equal(wf_dtype_from_storage_class("", &untyped), WF_DTYPE_INVALID);
}

static void numpy(void **state)
{
	bool big;

	assert_int_equal(wf_dtype_from_numpy("<f4", &big), WF_FLOAT32);
	assert_false(big);
	assert_int_equal(wf_dtype_from_numpy(">i8", &big), WF_INT64);
	assert_true(big);
	assert_int_equal(wf_dtype_from_numpy("|b1", &big), WF_BOOL8);
	assert_int_equal(wf_dtype_from_numpy("=c16", &big), WF_COMPLEX128);
	assert_int_equal(wf_dtype_from_numpy("u1", &big), WF_UINT8);
	assert_int_equal(wf_dtype_from_numpy("i1", &big), WF_INT8);
	assert_int_equal(wf_dtype_from_numpy("O8", &big), WF_DTYPE_INVALID);
	assert_int_equal(wf_dtype_from_numpy("U3", &big), WF_DTYPE_INVALID);
	assert_int_equal(wf_dtype_from_numpy("", &big), WF_DTYPE_INVALID);
	assert_int_equal(wf_dtype_from_numpy("<", &big), WF_DTYPE_INVALID);
}

static void globals(void **state)
{
	struct wf_graph *g;

	assert_int_equal(wf_graph_new(&g), 0);
	assert_int_equal(wf_dtype_from_global(g, wf_global_named(g, "torch", "uint16")), WF_UINT16);
	assert_int_equal(wf_dtype_from_global(g, wf_global_named(g, "numpy", "uint16")), WF_DTYPE_INVALID);
	assert_int_equal(wf_dtype_from_global(g, wf_str(g, "uint16")), WF_DTYPE_INVALID);
	assert_int_equal(wf_dtype_from_global(g, WF_NIL), WF_DTYPE_INVALID);
	wf_graph_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_is_whole), cmocka_unit_test(names),   cmocka_unit_test(storage_classes),
		cmocka_unit_test(numpy),          cmocka_unit_test(globals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
