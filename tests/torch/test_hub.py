#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A mount in place of a model that was downloaded: transformers' from_pretrained, which loads in several threads, on the safetensors file of a .pt; and
reads as diffusers and others make them, by safe_open: names, slices, one tensor after the other, from several threads.

Usage: test_hub.py BUILD_DIRECTORY. Prints TAP; what wants transformers is skipped where it is not installed.
"""
import gc
import os
import sys
import threading
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "mount"))
from kit import World, done, need_fuse, ok, run, same, skip  # noqa: E402

warnings.filterwarnings("ignore")
need_fuse()
import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

BUILD = sys.argv[1]
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")


def models():
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig
    torch.manual_seed(1)
    for config in (GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=100, n_positions=32, bos_token_id=1, eos_token_id=2),
                   LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2, vocab_size=100,
                               tie_word_embeddings=True),
                   LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, vocab_size=100,
                               tie_word_embeddings=False, dtype="bfloat16")):
        yield config, AutoModelForCausalLM.from_config(config)


def check_transformers(w):
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        skip("from_pretrained", "transformers is not installed")
        return
    home = os.path.join(w.dir, "model")
    os.makedirs(home)
    for config, model in models():
        what = f"{type(model).__name__}{' (tied)' if config.tie_word_embeddings else ''}"
        wanted = model.state_dict()
        torch.save(wanted, w.file)
        config.save_pretrained(home)
        w.mount()
        if not os.path.lexists(f"{home}/model.safetensors"):
            os.symlink(f"{w.mnt}/.weightfs/model.safetensors", f"{home}/model.safetensors")
        loaded = AutoModelForCausalLM.from_pretrained(home)
        got = loaded.state_dict()
        ok(got.keys() == wanted.keys() and all(torch.equal(got[k], wanted[k]) for k in wanted), f"from_pretrained of a mount: {what}", sorted(got))
        first = next(iter(wanted))
        os.setxattr(f"{w.mnt}/{first}", "user.torch.requires_grad", b"false")
        with open(f"{w.mnt}/{first}", "r+b") as f:
            f.write(bytes(wanted[first].nbytes))
        del loaded, got
        gc.collect()
        edited = AutoModelForCausalLM.from_pretrained(home)
        ok(not edited.state_dict()[first].any(), "  an edit of the mount is in the next one")
        del edited
        gc.collect()
        w.umount()


def check_output(w):
    """A sharded model, edited into a directory of its own, is one that from_pretrained takes."""
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        skip("from_pretrained of an output", "transformers is not installed")
        return
    config, model = list(models())[-1]  # without ties
    home, out = os.path.join(w.dir, "sharded"), os.path.join(w.dir, "edited")
    model.save_pretrained(home, max_shard_size="20KB")
    shards = [f for f in os.listdir(home) if f.endswith(".safetensors")]
    wanted = {k: v.clone() for k, v in AutoModelForCausalLM.from_pretrained(home).state_dict().items()}
    r = run(w.weightfs, "-o", f"output={out}", home, w.mnt)
    first = next(iter(wanted))
    with open(f"{w.mnt}/{first}", "r+b") as f:
        f.write(bytes(wanted[first].nbytes))
    wanted[first].zero_()
    u = run(w.wfctl, "umount", w.mnt)
    got = AutoModelForCausalLM.from_pretrained(out).state_dict() if u.returncode == 0 else {}
    ok(len(shards) > 1 and r.returncode == 0 and got.keys() == wanted.keys() and all(torch.equal(got[k], wanted[k]) for k in wanted),
       "from_pretrained of a directory that a mount has written", (r, u, os.listdir(out)))


def check_safe_open(w):
    torch.manual_seed(2)
    d = {f"unet.block{i}.{kind}.weight": torch.randn(64, 3 + i % 5).to(dtype) for i in range(40)
         for kind, dtype in (("conv", torch.float32), ("attn", torch.float16), ("norm", torch.bfloat16))}
    torch.save(d, w.file)
    for options in ((), ("-o", "ro"), ("-o", "direct_io")):
        w.mount(*options)
        path = f"{w.mnt}/.weightfs/model.safetensors"
        with safe_open(path, framework="pt", device="cpu") as f:
            same(sorted(f.keys()), sorted(d), f"{options}: the keys")
            same(f.metadata(), {"format": "pt"}, "  the metadata that transformers and diffusers look for")
            ok(all(torch.equal(f.get_tensor(k), d[k]) for k in d), "  one tensor after the other")
            ok(all(torch.equal(f.get_slice(k)[10:20, :2], d[k][10:20, :2]) and f.get_slice(k).get_shape() == list(d[k].shape) for k in d), "  slices")
        bad = []

        def reader(names):
            with safe_open(path, framework="pt", device="cpu") as f:
                bad.extend(k for k in names if not torch.equal(f.get_tensor(k), d[k]))
        threads = [threading.Thread(target=reader, args=(list(d)[i::4],)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        same(bad, [], "  in four threads")
        ok(load_file(path, device="cpu").keys() == d.keys(), "  load_file")
        w.umount()


for case in (check_safe_open, check_transformers, check_output):
    with World(BUILD, lambda path: None) as world:
        case(world)
done()
