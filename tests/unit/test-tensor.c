/* SPDX-License-Identifier: MIT */
#include "tensor-kit.h"

#include "codec/tensor/layout.h"

/* Storages of every test: key "f" 12 float32 (48 bytes), "u" 48 untyped bytes, "q" 12 quint8, "c" 4 complex64, "l" 6
 * int64, "p" 6 bytes of quint4x2. */
static void start(struct kit *k)
{
	static const char bytes[48] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL";

	kit_init(k);
	kit_record(k, "f", bytes, 48, false);
	kit_record(k, "u", bytes, 48, false);
	kit_record(k, "q", bytes, 12, false);
	kit_record(k, "c", bytes, 32, false);
	kit_record(k, "l", bytes, 48, false);
	kit_record(k, "p", bytes, 6, false);
}

static wf_ref f_storage(struct kit *k)
{
	return kit_persid(k, "FloatStorage", "f", 12);
}

static wf_ref named(struct kit *k, const char *dtype)
{
	return wf_global_named(k->g, "torch", dtype);
}

static wf_ref rebuild(struct kit *k, const char *name, wf_ref args)
{
	return kit_call(k, "torch._utils", name, args);
}

static struct wf_tensor t;

static void decodes(struct kit *k, wf_ref r)
{
	char line[512];

	assert_true(r != WF_NIL);
	assert_true(wf_is_tensor(k->g, r));
	int rc = wf_tensor_decode(k->g, k->ss, r, &t, &k->err);
	if (rc < 0)
		fail_msg("%s", wf_error_format(&k->err, line, sizeof line));
	assert_int_equal(t.object, r);
}

static void refuses(struct kit *k, wf_ref r, int code, const char *text)
{
	struct wf_tensor ignored;

	assert_true(r != WF_NIL);
	k->err = (struct wf_error){0};
	assert_int_equal(wf_tensor_decode(k->g, k->ss, r, &ignored, &k->err), code);
	if (!strstr(k->err.text, text))
		fail_msg("\"%s\" is not in \"%s\"", text, k->err.text);
}

static void is_class(struct kit *k, const char *want)
{
	char buf[128];

	assert_string_equal(wf_tensor_class(k->g, &t, buf, sizeof buf), want);
}

static void strided_forms(void **state)
{
	struct kit k;

	start(&k);
	struct wf_graph *g = k.g;
	wf_ref s = f_storage(&k), u = kit_persid(&k, "UntypedStorage", "u", 48),
	       c = kit_persid(&k, "ComplexFloatStorage", "c", 4);
	wf_ref size = INTS(&k, 2, 3), stride = INTS(&k, 1, 4), no = wf_bool(g, false), yes = wf_bool(g, true),
	       one = wf_int(g, 1);
	wf_ref none = wf_none(g), meta = wf_dict(g);
	wf_dict_append(g, meta, wf_str(g, "conj"), yes);
	wf_dict_append(g, meta, wf_str(g, "neg"), yes);
	wf_ref v1 = rebuild(&k, "_rebuild_tensor", TUPLE(g, s, one, size, stride));
	wf_ref v2 = rebuild(&k, "_rebuild_tensor_v2", TUPLE(g, s, one, size, stride, yes, none));
	wf_ref conj = rebuild(&k, "_rebuild_tensor_v2", TUPLE(g, c, one, INTS(&k, 3), INTS(&k, 1), no, none, meta));
	wf_ref v3 = rebuild(&k, "_rebuild_tensor_v3",
			    TUPLE(g, u, one, INTS(&k, 5), INTS(&k, 4), no, none, named(&k, "uint16")));
	wf_ref bytes = kit_v2(&k, u, 40, INTS(&k, 8), INTS(&k, 1));
	wf_ref scalar = kit_v2(&k, s, 11, wf_tuple(g, NULL, 0), wf_tuple(g, NULL, 0));
	wf_ref empty = kit_v2(&k, s, 500, INTS(&k, 3, 0), INTS(&k, 1, 1));
	wf_ref list = wf_list(g);
	wf_list_append(g, list, wf_int(g, 12));
	wf_ref torch_size = kit_call(&k, "torch", "Size", TUPLE(g, INTS(&k, 12)));
	wf_ref other_shape = kit_v2(&k, s, 0, torch_size, INTS(&k, 1)),
	       list_shape = kit_v2(&k, s, 0, list, INTS(&k, 1));
	wf_ref expanded = kit_v2(&k, s, 3, INTS(&k, 1 << 20, (int64_t)1 << 40), INTS(&k, 0, 0));
	kit_open(&k);

	decodes(&k, v1);
	assert_int_equal(t.kind, WF_TENSOR_DENSE);
	assert_int_equal(t.dtype, WF_FLOAT32);
	assert_int_equal(t.storage, wf_storage_of(k.ss, s));
	assert_true(t.offset_elems == 1 && t.numel == 6 && t.size_bytes == 24 && t.ndim == 2);
	assert_true(t.shape[0] == 2 && t.shape[1] == 3 && t.stride[0] == 1 && t.stride[1] == 4);
	assert_false(t.contiguous || t.requires_grad || t.conj || t.neg || t.swap || t.parameter);
	assert_int_equal(t.rebuild, v1);
	is_class(&k, "torch.Tensor");
	decodes(&k, v2);
	assert_true(t.requires_grad);
	decodes(&k, conj);
	assert_true(t.conj && t.neg && t.contiguous && t.dtype == WF_COMPLEX64 && t.size_bytes == 24);
	decodes(&k, v3);
	assert_true(t.dtype == WF_UINT16 && t.size_bytes == 10 && t.stride[0] == 4 && !t.contiguous);
	decodes(&k, bytes);
	assert_true(t.dtype == WF_UINT8 && t.size_bytes == 8 && t.contiguous);
	decodes(&k, scalar);
	assert_true(t.ndim == 0 && t.numel == 1 && t.size_bytes == 4 && t.contiguous);
	decodes(&k, empty);
	assert_true(t.numel == 0 && t.size_bytes == 0 && t.contiguous);
	decodes(&k, other_shape);
	assert_true(t.ndim == 1 && t.shape[0] == 12 && t.contiguous);
	decodes(&k, list_shape);
	assert_true(t.ndim == 1 && t.shape[0] == 12);
	decodes(&k, expanded);
	assert_true(t.numel == (uint64_t)1 << 60 && t.size_bytes == (uint64_t)1 << 62 && !t.contiguous);
	kit_close(&k);
}

static void broken_forms(void **state)
{
	struct kit k;
	int64_t many[WF_MAX_NDIM + 1] = {0};

	start(&k);
	struct wf_graph *g = k.g;
	wf_ref s = f_storage(&k), u = kit_persid(&k, "UntypedStorage", "u", 48), none = wf_none(g),
	       no = wf_bool(g, false);
	wf_ref missing = kit_persid(&k, "FloatStorage", "gone", 12), zero = wf_int(g, 0), meta = wf_dict(g);
	wf_ref nothing = wf_persid(g, TUPLE(g, wf_str(g, "storage")));
	const int64_t big = INT64_MAX;
	wf_dict_append(g, meta, wf_str(g, "conj"), wf_bool(g, true));
	for (uint32_t i = 0; i < WF_MAX_NDIM + 1; i++)
		many[i] = 1;
	struct {
		wf_ref r;
		int code;
		const char *text;
	} cases[] = {
		{kit_v2(&k, s, 0, INTS(&k, 13), INTS(&k, 1)), -EUCLEAN, "view ends at byte 52 of a storage of 48"},
		{kit_v2(&k, s, 1, INTS(&k, 12), INTS(&k, 1)), -EUCLEAN, "view ends at byte 52"},
		{kit_v2(&k, s, 0, INTS(&k, 2, 2), INTS(&k, 11, 1)), -EUCLEAN, "view ends at byte 52"},
		{kit_v2(&k, s, -1, INTS(&k, 2), INTS(&k, 1)), -EUCLEAN, "offset"},
		{kit_v2(&k, s, 0, INTS(&k, -2), INTS(&k, 1)), -EUCLEAN, "size"},
		{kit_v2(&k, s, 0, INTS(&k, 2), INTS(&k, -1)), -EUCLEAN, "stride"},
		{kit_v2(&k, s, 0, INTS(&k, 2, 2), INTS(&k, 1)), -EUCLEAN, "stride"},
		{kit_v2(&k, s, 0, wf_str(g, "2"), INTS(&k, 1)), -EUCLEAN, "size"},
		{kit_v2(&k, s, 0, kit_ints(&k, WF_MAX_NDIM + 1, many), kit_ints(&k, WF_MAX_NDIM + 1, many)), -EUCLEAN,
		 "64"},
		{kit_v2(&k, s, 0, INTS(&k, big, big), INTS(&k, 0, 0)), -EUCLEAN, "multiply"},
		{kit_v2(&k, s, 0, INTS(&k, big), INTS(&k, big)), -EUCLEAN, "multiply"},
		{kit_v2(&k, s, 0, INTS(&k, (int64_t)1 << 61), INTS(&k, 0)), -EUCLEAN, "multiply"},
		{kit_v2(&k, s, big, INTS(&k, 2), INTS(&k, big)), -EUCLEAN, "view ends past any storage"},
		{kit_v2(&k, wf_str(g, "s"), 0, INTS(&k, 2), INTS(&k, 1)), -EUCLEAN, "not a storage"},
		{kit_v2(&k, missing, 0, INTS(&k, 2), INTS(&k, 1)), -EUCLEAN, "no record for storage gone"},
		{kit_v2(&k, nothing, 0, INTS(&k, 2), INTS(&k, 1)), -EUCLEAN, "no valid id"},
		{rebuild(&k, "_rebuild_tensor_v2", TUPLE(g, s, zero, INTS(&k, 2), INTS(&k, 1), no)), -EUCLEAN,
		 "6 to 7 arguments, not 5"},
		{rebuild(&k, "_rebuild_tensor_v2", wf_none(g)), -EUCLEAN, "arguments, not 0"},
		{rebuild(&k, "_rebuild_tensor", TUPLE(g, s)), -EUCLEAN, "too few"},
		{rebuild(&k, "_rebuild_tensor_v2", TUPLE(g, s, zero, INTS(&k, 2), INTS(&k, 1), no, none, meta)),
		 -EUCLEAN, "conjugate"},
		{rebuild(&k, "_rebuild_tensor_v3",
			 TUPLE(g, u, zero, INTS(&k, 2), INTS(&k, 1), no, none, named(&k, "int3"))),
		 -EUCLEAN, "dtype"},
		{rebuild(&k, "_rebuild_tensor_v3",
			 TUPLE(g, u, zero, INTS(&k, 25), INTS(&k, 1), no, none, named(&k, "uint16"))),
		 -EUCLEAN, "byte 50"},
		{rebuild(&k, "_rebuild_qtensor", TUPLE(g, s, zero, INTS(&k, 2), INTS(&k, 1), none, no, none)), -EUCLEAN,
		 "storage of float32"},
		{rebuild(&k, "_rebuild_meta_tensor_no_storage", TUPLE(g, named(&k, "float32"))), -EUCLEAN, "not 1"},
		{rebuild(&k, "_rebuild_other", TUPLE(g, s, zero, INTS(&k, 2), INTS(&k, 1), no, none)), -EINVAL,
		 "not a tensor"},
		{kit_call(&k, "evil", "_rebuild_tensor_v2", TUPLE(g, s, zero, INTS(&k, 2), INTS(&k, 1), no, none)),
		 -EINVAL, "not a tensor"},
		{rebuild(&k, "_rebuild_parameter", wf_tuple(g, NULL, 0)), -EINVAL, "not a tensor"},
		{rebuild(&k, "_rebuild_parameter", TUPLE(g, s, no, none)), -EINVAL, "not a tensor"},
		{wf_str(g, "x"), -EINVAL, "not a tensor"},
	};
	wf_ref loop = rebuild(&k, "_rebuild_parameter", none);
	wf_call_set_args(g, loop, TUPLE(g, loop, no, none));
	kit_open(&k);
	for (size_t i = 0; i < WF_ARRAY_SIZE(cases); i++) {
		refuses(&k, cases[i].r, cases[i].code, cases[i].text);
		assert_int_equal(wf_is_tensor(g, cases[i].r), cases[i].code != -EINVAL);
	}
	refuses(&k, loop, -EUCLEAN, "wrappers");
	assert_false(wf_is_tensor(g, loop));
	/* what is declared over a broken storage is known */
	assert_int_equal(wf_tensor_decode(g, k.ss, cases[14].r, &t, NULL), -EUCLEAN);
	assert_true(t.size_bytes == 8 && t.dtype == WF_FLOAT32 && t.shape[0] == 2);
	assert_false(wf_is_tensor(g, WF_NIL));
	kit_close(&k);
}

static void wrappers(void **state)
{
	struct kit k;

	start(&k);
	struct wf_graph *g = k.g;
	wf_ref s = f_storage(&k), yes = wf_bool(g, true), no = wf_bool(g, false), none = wf_none(g);
	wf_ref inner = kit_v2(&k, s, 0, INTS(&k, 12), INTS(&k, 1));
	wf_ref grad =
		rebuild(&k, "_rebuild_tensor_v2", TUPLE(g, s, wf_int(g, 0), INTS(&k, 12), INTS(&k, 1), yes, none));
	wf_ref args = wf_call_args(g, inner), func = wf_call_func(g, inner), sub = wf_global_named(g, "mine", "Sub");
	wf_ref parameter = rebuild(&k, "_rebuild_parameter", TUPLE(g, inner, yes, none));
	wf_ref frozen = rebuild(&k, "_rebuild_parameter_with_state", TUPLE(g, grad, no, none, wf_dict(g)));
	wf_ref typed = kit_call(&k, "torch._tensor", "_rebuild_from_type_v2", TUPLE(g, func, sub, args, none));
	wf_ref old_typed = kit_call(&k, "torch.tensor", "_rebuild_from_type", TUPLE(g, func, sub, args, wf_dict(g)));
	wf_ref plain = kit_call(&k, "torch._tensor", "_rebuild_from_type_v2",
				TUPLE(g, func, named(&k, "Tensor"), args, wf_dict(g)));
	wf_ref both = kit_call(&k, "torch._tensor", "_rebuild_from_type_v2",
			       TUPLE(g, wf_call_func(g, parameter), sub, wf_call_args(g, parameter), none));
	wf_ref class = wf_global_named(g, "torch.nn.parameter", "Parameter");
	wf_ref variable = wf_global_named(g, "torch.autograd.variable", "Variable");
	wf_ref old_parameter = wf_call(g, WF_CALL_NEWOBJ, class, TUPLE(g, inner, no), WF_NIL);
	wf_ref bare_parameter = wf_call(g, WF_CALL_REDUCE, class, TUPLE(g, inner), WF_NIL);
	wf_ref state3 = wf_call(g, WF_CALL_NEWOBJ, class, TUPLE(g, inner), WF_NIL);
	wf_call_build(g, state3, TUPLE(g, no, no, none));
	wf_ref state5 = wf_call(g, WF_CALL_NEWOBJ, variable, wf_tuple(g, NULL, 0), WF_NIL);
	wf_call_build(g, state5, TUPLE(g, inner, none, none, yes, no));
	wf_ref cpu = rebuild(&k, "_rebuild_device_tensor_from_cpu_tensor",
			     TUPLE(g, inner, named(&k, "float32"), wf_str(g, "xla:0"), yes));
	wf_ref nested = kit_call(&k, "torch._tensor", "_rebuild_from_type_v2",
				 TUPLE(g, wf_call_func(g, typed), sub, wf_call_args(g, typed), none));
	wf_ref old = wf_call(g, WF_CALL_NEWOBJ, wf_global_named(g, "torch.cuda", "FloatTensor"), wf_tuple(g, NULL, 0),
			     WF_NIL);
	wf_call_build(g, old, TUPLE(g, s, wf_int(g, 2), INTS(&k, 5), INTS(&k, 2)));
	wf_ref wrong =
		wf_call(g, WF_CALL_NEWOBJ, wf_global_named(g, "torch", "LongTensor"), wf_tuple(g, NULL, 0), WF_NIL);
	wf_call_build(g, wrong, TUPLE(g, s, wf_int(g, 2), INTS(&k, 5), INTS(&k, 2)));
	wf_ref meta = rebuild(&k, "_rebuild_meta_tensor_no_storage",
			      TUPLE(g, named(&k, "bfloat16"), INTS(&k, 3), INTS(&k, 1), yes));
	wf_ref subclass =
		rebuild(&k, "_rebuild_wrapper_subclass",
			TUPLE(g, sub, named(&k, "float64"), INTS(&k, 3), INTS(&k, 1), wf_int(g, 0), none, none, no));
	kit_open(&k);

	decodes(&k, parameter);
	assert_true(t.parameter && t.requires_grad && t.rebuild == inner);
	is_class(&k, "torch.nn.parameter.Parameter");
	decodes(&k, frozen); /* the outer one decides */
	assert_true(t.parameter && !t.requires_grad && t.rebuild == grad);
	decodes(&k, typed);
	assert_true(t.rebuild == typed && t.size_bytes == 48);
	is_class(&k, "mine.Sub");
	decodes(&k, old_typed);
	is_class(&k, "mine.Sub");
	decodes(&k, plain);
	assert_int_equal(t.type, WF_NIL);
	is_class(&k, "torch.Tensor");
	decodes(&k, both);
	assert_true(t.parameter && t.requires_grad && t.rebuild == inner);
	is_class(&k, "mine.Sub");
	decodes(&k, old_parameter);
	assert_true(t.parameter && !t.requires_grad);
	decodes(&k, bare_parameter);
	assert_true(t.parameter && t.requires_grad);
	decodes(&k, state3);
	assert_true(t.parameter && !t.requires_grad);
	decodes(&k, state5);
	assert_true(!t.parameter && t.requires_grad && t.rebuild == inner);
	is_class(&k, "torch.Tensor");
	decodes(&k, cpu);
	assert_true(t.requires_grad && t.rebuild == inner);
	assert_false(wf_is_tensor(g, nested));
	refuses(&k, nested, -EINVAL, "not a tensor");
	decodes(&k, old);
	assert_true(t.offset_elems == 2 && t.shape[0] == 5 && t.stride[0] == 2 && t.dtype == WF_FLOAT32);
	is_class(&k, "torch.Tensor");
	refuses(&k, wrong, -EUCLEAN, "LongTensor over a storage of float32");
	decodes(&k, meta);
	assert_true(t.kind == WF_TENSOR_META && t.dtype == WF_BFLOAT16 && t.size_bytes == 6 && t.requires_grad);
	assert_int_equal(t.storage, WF_NO_STORAGE);
	struct wf_tensor first = t;
	assert_true(wf_tensor_tied(&first, &t));
	decodes(&k, subclass);
	assert_true(t.kind == WF_TENSOR_META && t.size_bytes == 24);
	is_class(&k, "mine.Sub");
	assert_false(wf_tensor_tied(&first, &t));
	kit_close(&k);
}

static void storages(void **state)
{
	struct kit k;

	start(&k);
	struct wf_graph *g = k.g;
	wf_ref s = f_storage(&k), u = kit_persid(&k, "UntypedStorage", "u", 48),
	       q = kit_persid(&k, "QUInt4x2Storage", "p", 6);
	wf_ref class = wf_global_named(g, "torch", "FloatStorage"), view[3];
	static const int64_t views[3][2] = {{4, 6}, {4, 9}, {-1, 2}};
	for (int i = 0; i < 3; i++)
		view[i] = wf_persid(g, TUPLE(g, wf_str(g, "storage"), class, wf_str(g, "f"), wf_str(g, "cpu"),
					     wf_int(g, 12),
					     TUPLE(g, wf_str(g, "v"), wf_int(g, views[i][0]), wf_int(g, views[i][1]))));
	wf_ref empty_float = kit_persid(&k, "FloatStorage", "e", 0), empty_long = kit_persid(&k, "LongStorage", "e", 0);
	kit_record(&k, "e", "", 0, false);
	wf_ref inside = kit_v2(&k, view[0], 1, INTS(&k, 5), INTS(&k, 1)),
	       outside = kit_v2(&k, view[0], 1, INTS(&k, 6), INTS(&k, 1));
	wf_ref none = kit_v2(&k, empty_long, 0, INTS(&k, 0), INTS(&k, 1));
	wf_ref packed =
		rebuild(&k, "_rebuild_qtensor",
			TUPLE(g, q, wf_int(g, 2), INTS(&k, 9), INTS(&k, 1), wf_none(g), wf_bool(g, false), wf_none(g)));
	wf_ref odd =
		rebuild(&k, "_rebuild_qtensor",
			TUPLE(g, q, wf_int(g, 1), INTS(&k, 2), INTS(&k, 1), wf_none(g), wf_bool(g, false), wf_none(g)));
	wf_ref too_many = rebuild(
		&k, "_rebuild_qtensor",
		TUPLE(g, q, wf_int(g, 2), INTS(&k, 11), INTS(&k, 1), wf_none(g), wf_bool(g, false), wf_none(g)));
	kit_open(&k);

	decodes(&k, s);
	assert_true(t.kind == WF_TENSOR_STORAGE && t.shape[0] == 12 && t.size_bytes == 48 && t.rebuild == s &&
		    t.contiguous);
	is_class(&k, "torch.FloatStorage");
	decodes(&k, u);
	assert_true(t.dtype == WF_UINT8 && t.size_bytes == 48);
	is_class(&k, "torch.storage.UntypedStorage");
	decodes(&k, q);
	assert_true(t.numel == 12 && t.size_bytes == 6);
	decodes(&k, view[0]);
	assert_true(t.offset_elems == 4 && t.shape[0] == 6 && t.size_bytes == 24);
	refuses(&k, view[1], -EUCLEAN, "leaves a storage of 48 bytes");
	refuses(&k, view[2], -EUCLEAN, "(key, offset, size)");
	decodes(&k, inside);
	assert_int_equal(t.offset_elems, 5);
	refuses(&k, outside, -EUCLEAN, "ends at byte 44 of a storage of 40");
	/* all empty storages share a key, each with its own class */
	decodes(&k, none);
	assert_int_equal(t.dtype, WF_INT64);
	decodes(&k, empty_float);
	assert_int_equal(t.dtype, WF_FLOAT32);
	decodes(&k, packed);
	assert_true(t.numel == 9 && t.size_bytes == 5 && t.quantizer != WF_NIL);
	char got[5];
	uint64_t from, to;
	assert_int_equal(wf_tensor_read(k.ss, &t, 0, got, 5), 0);
	assert_memory_equal(got, "12345", 5);
	wf_layout_span(&t, &from, &to);
	assert_true(from == 1 && to == 6);
	refuses(&k, odd, -EOPNOTSUPP, "packed");
	refuses(&k, too_many, -EUCLEAN, "byte 7 of a storage of 6");
	kit_close(&k);
}

static void arrays(void **state)
{
	struct kit k;

	start(&k);
	struct wf_graph *g = k.g;
	wf_ref f4 = kit_dtype(&k, "f4", "<"), big = kit_dtype(&k, "i2", ">"), shape = INTS(&k, 2, 3);
	wf_ref bytes = wf_string(g, WF_BYTES, "0123456789ab0123456789ab", 24);
	wf_ref c = kit_array(&k, shape, f4, false, bytes), f = kit_array(&k, shape, f4, true, bytes);
	wf_ref swapped = kit_array(&k, INTS(&k, 2), big, false, kit_latin1(&k, "\x01\x02\xff\xfe", 4));
	wf_ref protocol5 =
		kit_call(&k, "numpy._core.numeric", "_frombuffer",
			 TUPLE(g, wf_string(g, WF_BYTEARRAY, "01234567", 8), f4, INTS(&k, 2), wf_str(g, "C")));
	wf_ref empty =
		kit_array(&k, INTS(&k, 0, 3), f4, false, kit_call(&k, "__builtin__", "bytes", wf_tuple(g, NULL, 0)));
	wf_ref short_one = kit_array(&k, INTS(&k, 7), f4, false, bytes),
	       long_one = kit_array(&k, INTS(&k, 5), f4, false, bytes);
	wf_ref negative = kit_array(&k, INTS(&k, -6), f4, false, bytes);
	wf_ref no_state =
		kit_call(&k, "numpy.core.multiarray", "_reconstruct", TUPLE(g, wf_global_named(g, "numpy", "ndarray")));
	wf_ref object = kit_array(&k, INTS(&k, 1), kit_dtype(&k, "O8", "|"), false, wf_list(g));
	wf_ref scalar = kit_call(&k, "numpy.core.multiarray", "scalar", TUPLE(g, f4, bytes));
	wf_ref matrix = kit_array(&k, shape, f4, false, bytes);
	wf_call_set_args(g, matrix, TUPLE(g, wf_global_named(g, "numpy", "matrix"), INTS(&k, 0), bytes));
	wf_ref xla = rebuild(&k, "_rebuild_xla_tensor",
			     TUPLE(g, c, named(&k, "float32"), wf_str(g, "xla:1"), wf_bool(g, true)));
	kit_open(&k);

	decodes(&k, c);
	assert_true(t.kind == WF_TENSOR_NUMPY && t.dtype == WF_FLOAT32 && t.contiguous && t.size_bytes == 24 &&
		    !t.swap);
	is_class(&k, "numpy.ndarray");
	decodes(&k, f);
	assert_true(!t.contiguous && t.stride[0] == 1 && t.stride[1] == 2);
	char got[24];
	assert_int_equal(wf_tensor_read(k.ss, &t, 0, got, 24), 0);
	assert_memory_equal(got,
			    "012389ab456745670123"
			    "89ab",
			    24);
	decodes(&k, swapped);
	assert_true(t.swap);
	assert_int_equal(wf_tensor_read(k.ss, &t, 0, got, 4), 0);
	assert_memory_equal(got, "\x02\x01\xfe\xff", 4);
	decodes(&k, protocol5);
	assert_true(t.kind == WF_TENSOR_NUMPY && t.size_bytes == 8);
	decodes(&k, empty);
	assert_true(t.size_bytes == 0);
	refuses(&k, short_one, -EUCLEAN, "view ends at byte 28 of a storage of 24");
	refuses(&k, long_one, -EUCLEAN, "of 20 bytes, which has 24");
	refuses(&k, negative, -EUCLEAN, "sizes of 0 or more");
	assert_false(wf_is_tensor(g, no_state) || wf_is_tensor(g, object) || wf_is_tensor(g, scalar));
	decodes(&k, matrix);
	is_class(&k, "numpy.matrix");
	decodes(&k, xla);
	assert_true(t.kind == WF_TENSOR_NUMPY && t.rebuild == c && t.requires_grad);
	is_class(&k, "torch.Tensor");
	kit_close(&k);
}

static void ties(void **state)
{
	struct kit k;

	start(&k);
	wf_ref s = f_storage(&k);
	wf_ref a = kit_v2(&k, s, 0, INTS(&k, 6), INTS(&k, 1)),
	       b = kit_v2(&k, f_storage(&k), 0, INTS(&k, 6), INTS(&k, 1));
	wf_ref other[] = {
		kit_v2(&k, s, 1, INTS(&k, 6), INTS(&k, 1)),
		kit_v2(&k, s, 0, INTS(&k, 5), INTS(&k, 1)),
		kit_v2(&k, s, 0, INTS(&k, 6), INTS(&k, 2)),
		kit_v2(&k, s, 0, INTS(&k, 2, 3), INTS(&k, 3, 1)),
		kit_v2(&k, kit_persid(&k, "LongStorage", "l", 6), 0, INTS(&k, 6), INTS(&k, 1)),
	};
	kit_open(&k);
	struct wf_tensor x;
	decodes(&k, a);
	x = t;
	decodes(&k, b);
	assert_true(wf_tensor_tied(&x, &t));
	assert_true(wf_tensor_tie_hash(k.g, &x) == wf_tensor_tie_hash(k.g, &t));
	for (size_t i = 0; i < WF_ARRAY_SIZE(other); i++) {
		decodes(&k, other[i]);
		assert_false(wf_tensor_tied(&x, &t));
		assert_true(wf_tensor_tie_hash(k.g, &x) != wf_tensor_tie_hash(k.g, &t)); /* but for one in 2^64 */
	}
	kit_close(&k);
}

static void has_components(struct kit *k, wf_ref r, const char *want)
{
	const char *names[5];
	wf_ref objects[5];
	char got[128] = "";
	struct wf_tensor part;
	uint32_t n = wf_tensor_components(k->g, r, names, objects);

	assert_false(wf_is_tensor(k->g, r));
	for (uint32_t i = 0; i < n; i++) {
		snprintf(got + strlen(got), sizeof got - strlen(got), "%s ", names[i]);
		assert_int_equal(wf_tensor_decode(k->g, k->ss, objects[i], &part, NULL), 0);
	}
	assert_string_equal(got, want);
}

static void components(void **state)
{
	struct kit k;
	const char *names[5];
	wf_ref objects[5];

	start(&k);
	struct wf_graph *g = k.g;
	wf_ref l = kit_persid(&k, "LongStorage", "l", 6), indices = kit_v2(&k, l, 0, INTS(&k, 2, 3), INTS(&k, 3, 1));
	wf_ref values = kit_v2(&k, f_storage(&k), 0, INTS(&k, 3), INTS(&k, 1)), size = INTS(&k, 4, 4),
	       none = wf_none(g);
	wf_ref no = wf_bool(g, false), zero = wf_int(g, 0), q = kit_persid(&k, "QUInt8Storage", "q", 12);
	static const char *const layouts[] = {"torch.sparse_coo", "torch.sparse_csr", "torch.sparse_bsc",
					      "torch.strided"};
	wf_ref layout[4];
	for (int i = 0; i < 4; i++)
		layout[i] = kit_call(&k, "torch.serialization", "_get_layout", TUPLE(g, wf_str(g, layouts[i])));
	wf_ref coo = rebuild(&k, "_rebuild_sparse_tensor", TUPLE(g, layout[0], TUPLE(g, indices, values, size, no)));
	wf_ref old_coo = rebuild(&k, "_rebuild_sparse_tensor", TUPLE(g, layout[0], TUPLE(g, indices, values, size)));
	wf_ref csr =
		rebuild(&k, "_rebuild_sparse_tensor", TUPLE(g, layout[1], TUPLE(g, indices, indices, values, size)));
	wf_ref bsc =
		rebuild(&k, "_rebuild_sparse_tensor", TUPLE(g, layout[2], TUPLE(g, indices, indices, values, size)));
	wf_ref dense =
		rebuild(&k, "_rebuild_sparse_tensor", TUPLE(g, layout[3], TUPLE(g, indices, indices, values, size)));
	wf_ref old_csr = rebuild(&k, "_rebuild_sparse_csr_tensor",
				 TUPLE(g, layout[1], TUPLE(g, indices, indices, values, size)));
	wf_ref parameter = rebuild(&k, "_rebuild_parameter", TUPLE(g, coo, no, none));
	wf_ref typed =
		kit_call(&k, "torch._tensor", "_rebuild_from_type_v2",
			 TUPLE(g, wf_call_func(g, coo), wf_global_named(g, "mine", "Sub"), wf_call_args(g, coo), none));
	wf_ref nested = rebuild(&k, "_rebuild_nested_tensor", TUPLE(g, values, indices, indices, indices));
	wf_ref channel = wf_global_named(g, "torch", "per_channel_affine"),
	       whole = wf_global_named(g, "torch", "per_tensor_affine");
	wf_ref quantizer = TUPLE(g, channel, values, indices, zero),
	       listed = TUPLE(g, channel, wf_list(g), wf_list(g), zero);
	wf_ref qc =
		rebuild(&k, "_rebuild_qtensor", TUPLE(g, q, zero, INTS(&k, 3, 4), INTS(&k, 4, 1), quantizer, no, none));
	wf_ref ql =
		rebuild(&k, "_rebuild_qtensor", TUPLE(g, q, zero, INTS(&k, 3, 4), INTS(&k, 4, 1), listed, no, none));
	wf_ref qt = rebuild(
		&k, "_rebuild_qtensor",
		TUPLE(g, q, zero, INTS(&k, 12), INTS(&k, 1), TUPLE(g, whole, wf_float(g, 0.5), zero), no, none));
	kit_open(&k);

	has_components(&k, coo, "indices values ");
	has_components(&k, old_coo, "indices values ");
	has_components(&k, csr, "crow_indices col_indices values ");
	has_components(&k, bsc, "ccol_indices row_indices values ");
	has_components(&k, dense, "");
	has_components(&k, old_csr, "crow_indices col_indices values ");
	has_components(&k, parameter, "indices values ");
	has_components(&k, typed, "indices values ");
	has_components(&k, nested, "buffer sizes strides offsets ");
	has_components(&k, qc, "int_repr scales zero_points ");
	has_components(&k, ql, "int_repr ");
	assert_int_equal(wf_tensor_components(g, qt, names, objects), 0);
	assert_int_equal(wf_tensor_components(g, values, names, objects), 0);
	assert_int_equal(wf_tensor_components(g, WF_NIL, names, objects), 0);
	decodes(&k, qt);
	assert_true(t.dtype == WF_QUINT8 &&
		    wf_is_global(g, wf_element(g, t.quantizer, 0), "torch", "per_tensor_affine"));
	kit_close(&k);
}

/* ---- making and changing ---- */

static void makes(void **state)
{
	static const enum wf_dtype dtypes[] = {WF_FLOAT32, WF_BOOL8, WF_COMPLEX128, WF_UINT16, WF_FLOAT8_E5M2};
	struct kit k;
	wf_ref tensor, persid;
	uint32_t i;

	start(&k);
	kit_open(&k);
	kit_make_writable(&k);
	for (size_t d = 0; d < WF_ARRAY_SIZE(dtypes); d++) {
		uint64_t size = 6 * wf_dtype_info(dtypes[d])->size_bytes;
		char key[8];
		snprintf(key, sizeof key, "n%zu", d);
		assert_int_equal(wf_tensor_make_persid(k.g, dtypes[d], key, "cuda:1", size, &persid), 0);
		assert_int_equal(wf_storage_new(k.ss, persid, size, &i), 0);
		assert_string_equal(wf_storage_location(k.ss, i), "cuda:1");
		assert_int_equal(wf_tensor_make(k.g, persid, dtypes[d], 0, (const int64_t[]){2, 3}, 2, true, &tensor),
				 0);
		decodes(&k, tensor);
		assert_int_equal(t.dtype, dtypes[d]);
		assert_true(t.contiguous && t.size_bytes == size && t.requires_grad && t.storage == i);
		assert_int_equal(t.stride[0], 3);
		const char *func = wf_global_name(k.g, wf_call_func(k.g, tensor));
		assert_string_equal(func, wf_dtype_info(dtypes[d])->storage_class ? "_rebuild_tensor_v2"
										  : "_rebuild_tensor_v3");
	}
	/* a dtype that the storage's class is not, says v3 */
	assert_int_equal(wf_tensor_make(k.g, f_storage(&k), WF_INT32, 0, NULL, 0, false, &tensor), 0);
	assert_string_equal(wf_global_name(k.g, wf_call_func(k.g, tensor)), "_rebuild_tensor_v3");
	assert_int_equal(wf_tensor_make(k.g, persid, WF_QUINT8, 0, NULL, 0, false, &tensor), -EINVAL);
	assert_int_equal(wf_tensor_make(k.g, persid, WF_INT8, 0, (const int64_t[]){INT64_MAX, 8, 2}, 3, false, &tensor),
			 -EINVAL);
	kit_close(&k);
}

static void reshape(struct wf_tensor *x, int64_t rows, int64_t columns)
{
	x->ndim = 2;
	x->shape[0] = rows;
	x->shape[1] = columns;
	x->stride[0] = columns;
	x->stride[1] = 1;
	x->numel = (uint64_t)(rows * columns);
}

static void updates(void **state)
{
	struct kit k;

	start(&k);
	struct wf_graph *g = k.g;
	wf_ref s = f_storage(&k), u = kit_persid(&k, "UntypedStorage", "u", 48), none = wf_none(g),
	       no = wf_bool(g, false);
	wf_ref l = kit_persid(&k, "LongStorage", "l", 6), meta = wf_dict(g), sub = wf_global_named(g, "mine", "Sub");
	wf_dict_append(g, meta, wf_str(g, "neg"), wf_bool(g, true));
	wf_ref v2 =
		rebuild(&k, "_rebuild_tensor_v2", TUPLE(g, s, wf_int(g, 0), INTS(&k, 12), INTS(&k, 1), no, none, meta));
	wf_ref typed = kit_call(&k, "torch._tensor", "_rebuild_from_type_v2",
				TUPLE(g, wf_call_func(g, v2), sub, wf_call_args(g, v2), none));
	wf_ref parameter = rebuild(&k, "_rebuild_parameter", TUPLE(g, typed, no, none));
	wf_ref old =
		wf_call(g, WF_CALL_NEWOBJ, wf_global_named(g, "torch", "FloatTensor"), wf_tuple(g, NULL, 0), WF_NIL);
	wf_call_build(g, old, TUPLE(g, s, wf_int(g, 2), INTS(&k, 5), INTS(&k, 2)));
	wf_ref bare =
		wf_call(g, WF_CALL_NEWOBJ, wf_global_named(g, "torch.nn.parameter", "Parameter"), TUPLE(g, v2), WF_NIL);
	wf_ref state3 =
		wf_call(g, WF_CALL_NEWOBJ, wf_global_named(g, "torch.nn.parameter", "Parameter"), TUPLE(g, v2), WF_NIL);
	wf_call_build(g, state3, TUPLE(g, no, no, none));
	wf_ref v1 = rebuild(&k, "_rebuild_tensor", TUPLE(g, s, wf_int(g, 0), INTS(&k, 12), INTS(&k, 1)));
	wf_ref meta_tensor = rebuild(&k, "_rebuild_meta_tensor_no_storage",
				     TUPLE(g, named(&k, "int8"), INTS(&k, 3), INTS(&k, 1), no));
	kit_open(&k);

	/* v2 -> v3 and back; metadata stays */
	decodes(&k, v2);
	t.dtype = WF_UINT16;
	t.offset_elems = 3;
	reshape(&t, 4, 5);
	assert_int_equal(wf_tensor_update(g, &t, u), 0);
	decodes(&k, v2);
	assert_true(t.dtype == WF_UINT16 && t.offset_elems == 3 && t.shape[1] == 5 && t.neg && !t.conj);
	assert_string_equal(wf_global_name(g, wf_call_func(g, v2)), "_rebuild_tensor_v3");
	assert_int_equal(wf_tensor_set_requires_grad(g, &t, true), 0);
	t.dtype = WF_INT64;
	t.offset_elems = 0;
	reshape(&t, 2, 3);
	assert_int_equal(wf_tensor_update(g, &t, l), 0);
	decodes(&k, v2);
	assert_true(t.dtype == WF_INT64 && t.size_bytes == 48 && t.requires_grad && t.neg);
	assert_string_equal(wf_global_name(g, wf_call_func(g, v2)), "_rebuild_tensor_v2");
	/* inside a Parameter of a subclass */
	decodes(&k, parameter);
	t.dtype = WF_UINT16;
	reshape(&t, 4, 6);
	assert_int_equal(wf_tensor_update(g, &t, u), 0);
	assert_int_equal(wf_tensor_set_requires_grad(g, &t, true), 0);
	decodes(&k, parameter);
	assert_true(t.dtype == WF_UINT16 && t.size_bytes == 48 && t.parameter && t.requires_grad);
	is_class(&k, "mine.Sub");
	decodes(&k, typed);
	assert_false(t.requires_grad); /* said where it counts, by the Parameter */
	assert_int_equal(wf_tensor_set_requires_grad(g, &t, true), 0);
	decodes(&k, typed);
	assert_true(t.requires_grad);
	/* 0.1: the class says the dtype */
	decodes(&k, old);
	t.dtype = WF_INT64;
	reshape(&t, 2, 2);
	assert_int_equal(wf_tensor_update(g, &t, l), 0);
	assert_int_equal(wf_tensor_set_requires_grad(g, &t, true), -EINVAL);
	decodes(&k, old);
	assert_true(t.dtype == WF_INT64 && t.shape[1] == 2 && t.offset_elems == 2);
	assert_true(wf_is_global(g, wf_call_func(g, old), "torch", "LongTensor"));
	t.dtype = WF_UINT16;
	assert_int_equal(wf_tensor_update(g, &t, u), -EINVAL);
	decodes(&k, v1);
	assert_int_equal(wf_tensor_set_requires_grad(g, &t, true), -EINVAL);
	t.dtype = WF_UINT16;
	assert_int_equal(wf_tensor_update(g, &t, u), -EINVAL);
	t.dtype = WF_QUINT8;
	assert_int_equal(wf_tensor_update(g, &t, s), -EINVAL);
	/* Parameter(tensor), with and without its old state */
	decodes(&k, bare);
	assert_true(t.requires_grad);
	assert_int_equal(wf_tensor_set_requires_grad(g, &t, false), 0);
	decodes(&k, bare);
	assert_false(t.requires_grad);
	decodes(&k, state3);
	assert_false(t.requires_grad);
	assert_int_equal(wf_tensor_set_requires_grad(g, &t, true), 0);
	decodes(&k, state3);
	assert_true(t.requires_grad);
	decodes(&k, meta_tensor);
	assert_int_equal(wf_tensor_set_requires_grad(g, &t, true), 0);
	assert_int_equal(wf_tensor_update(g, &t, s), -EINVAL);
	decodes(&k, meta_tensor);
	assert_true(t.requires_grad);
	kit_close(&k);
}

static void updates_arrays(void **state)
{
	struct kit k;

	start(&k);
	struct wf_graph *g = k.g;
	wf_ref f4 = kit_dtype(&k, "f4", ">"), bytes = wf_string(g, WF_BYTES, "0123456789ab0123456789ab", 24);
	wf_ref c = kit_array(&k, INTS(&k, 2, 3), f4, false, bytes), f = kit_array(&k, INTS(&k, 2, 3), f4, true, bytes);
	wf_ref five = kit_call(&k, "numpy._core.numeric", "_frombuffer",
			       TUPLE(g, wf_string(g, WF_BYTEARRAY, "01234567", 8), kit_dtype(&k, "f4", "<"),
				     INTS(&k, 2), wf_str(g, "C")));
	kit_open(&k);

	decodes(&k, c);
	reshape(&t, 3, 2);
	assert_int_equal(wf_tensor_update(g, &t, WF_NIL), 0);
	decodes(&k, c);
	assert_true(t.shape[0] == 3 && t.shape[1] == 2 && t.contiguous && t.dtype == WF_FLOAT32 && t.swap);
	t.dtype = WF_INT16;
	t.swap = false;
	reshape(&t, 3, 4);
	assert_int_equal(wf_tensor_update(g, &t, WF_NIL), 0);
	decodes(&k, c);
	assert_true(t.dtype == WF_INT16 && !t.swap && t.size_bytes == 24);
	t.dtype = WF_BFLOAT16;
	assert_int_equal(wf_tensor_update(g, &t, WF_NIL), -EINVAL);
	/* a new layout over the same bytes says its own order */
	decodes(&k, f);
	assert_false(t.contiguous);
	t.stride[0] = 3;
	t.stride[1] = 1;
	assert_int_equal(wf_tensor_update(g, &t, WF_NIL), 0);
	decodes(&k, f);
	assert_true(t.contiguous && t.swap);
	t.stride[0] = 4;
	assert_int_equal(wf_tensor_update(g, &t, WF_NIL), -EINVAL);
	decodes(&k, five);
	reshape(&t, 1, 2);
	assert_int_equal(wf_tensor_update(g, &t, WF_NIL), 0);
	assert_int_equal(wf_numpy_set_bytes(g, five, wf_string(g, WF_BYTES, "abcdefgh", 8)), 0);
	decodes(&k, five);
	assert_int_equal(t.ndim, 2);
	size_t len;
	assert_string_equal(wf_bytes(g, wf_numpy_data(g, five), &len), "abcdefgh");
	assert_int_equal(wf_numpy_set_bytes(g, wf_str(g, "x"), wf_string(g, WF_BYTES, "", 0)), -EINVAL);
	kit_close(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strided_forms),  cmocka_unit_test(broken_forms), cmocka_unit_test(wrappers),
		cmocka_unit_test(storages),       cmocka_unit_test(arrays),       cmocka_unit_test(ties),
		cmocka_unit_test(components),     cmocka_unit_test(makes),        cmocka_unit_test(updates),
		cmocka_unit_test(updates_arrays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
