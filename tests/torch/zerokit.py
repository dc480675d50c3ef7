# SPDX-License-Identifier: MIT
"""Writes checkpoints as DeepSpeed's engine lays them out, with torch alone: any number of ranks in one process, and what DeepSpeed would
never write. tests/files/zero holds what DeepSpeed itself wrote."""
import math
import os
from collections import OrderedDict

import torch


def flat(tensors, padded_to):
    """One vector of all, filled up with zeroes to a multiple."""
    v = torch.cat([t.reshape(-1) for t in tensors]) if tensors else torch.zeros(0)
    return torch.cat([v, torch.full((-v.numel() % padded_to,), -7.0)])


def rank_name(rank, kind, bf16=False):
    return f"{'bf16_' if bf16 else ''}zero_pp_rank_{rank}_mp_rank_00_{kind}_states.pt"


def spread(tensors, ranks):
    """What each rank has of every parameter in stage 3: ceil(n / ranks) elements."""
    parts = [[] for _ in range(ranks)]
    for t in tensors:
        n = math.ceil(t.numel() / ranks)
        v = torch.cat([t.reshape(-1), torch.full((n * ranks - t.numel(),), -7.0, dtype=t.dtype)])
        for r in range(ranks):
            parts[r].append(v[r * n:(r + 1) * n])
    return parts


def sub_groups(parts, size):
    """Lists of parameters of at least `size` elements a rank."""
    groups, group = [], []
    for p in parts:
        group.append(p)
        if size and sum(q.numel() for q in group) >= size:
            groups.append(group)
            group = []
    return groups + [group] if group else groups


class Zero:
    """groups: a list of dicts of parameters. state: names of the moments."""

    def __init__(self, groups, ranks, stage, buffers=None, frozen=None, shared=None, state=("exp_avg", "exp_avg_sq"), bf16=False,
                 sub_group=None, strip=True, elastic=False, alignment=None, more=None):
        self.groups, self.ranks, self.stage, self.bf16 = groups, ranks, stage, bf16
        self.buffers, self.frozen, self.shared = buffers or {}, frozen or {}, shared or {}
        self.names, self.sub_group, self.strip, self.elastic, self.alignment = state, sub_group, strip, elastic, alignment
        self.more = more or {}
        self.state = {s: [{k: v * (i + 2) + 1 for k, v in g.items()} for g in groups] for i, s in enumerate(state)}

    def params(self):
        return {k: v for g in self.groups for k, v in g.items()}

    def model(self):
        found = {**self.buffers, **self.frozen, **self.params()}
        return {**found, **{k: found[v] for k, v in self.shared.items()}}

    def moments(self):
        return {f"{k}/{s}": v for s, groups in self.state.items() for g in groups for k, v in g.items()}

    def shapes(self):
        return [OrderedDict((k, v.shape) for k, v in g.items()) for g in self.groups]

    def model_states(self, rank):
        whole = self.stage < 3
        module = OrderedDict(self.buffers)
        for k, v in {**self.params(), **self.frozen, **{k: self.params()[v] for k, v in self.shared.items()}}.items():
            module[k] = v if whole else torch.zeros(0)
        fragments = self.frozen if whole else {k: spread([v], self.ranks)[rank][0] for k, v in self.frozen.items()}
        return {"module": module, "buffer_names": list(self.buffers), "optimizer": None, "param_shapes": self.shapes(),
                "frozen_param_shapes": OrderedDict((k, v.shape) for k, v in self.frozen.items()) or None,
                "frozen_param_fragments": OrderedDict(fragments) or None, "shared_params": self.shared if rank == 0 else {},
                "lr_scheduler": {"last_epoch": 3}, "global_steps": 3, "dp_world_size": self.ranks, "mp_world_size": 1,
                "ds_config": {"zero_optimization": {"stage": self.stage}}, "ds_version": "0.19.8", **self.more}

    def vectors(self, groups):
        """[group][rank]"""
        if self.stage < 3:
            aligned = [[flat([v], self.alignment or 1) for v in g.values()] for g in groups]
            return [list(flat(g, 2 * self.ranks).chunk(self.ranks)) for g in aligned]
        parts = [sub_groups(p, self.sub_group) for g in groups for p in spread(list(g.values()), self.ranks)]
        per_group = [parts[i * self.ranks:(i + 1) * self.ranks] for i in range(len(groups))]
        return [[torch.cat(ranks[r][i]) for r in range(self.ranks)] for ranks in per_group for i in range(len(ranks[0]))]

    def optim_states(self, rank):
        fp32 = [g[rank].clone() for g in self.vectors(self.groups)]
        state = {s: [g[rank].clone() for g in self.vectors(groups)] for s, groups in self.state.items()}
        states = {i: {"step": torch.tensor(3.0), **{s: state[s][i] for s in self.names}} for i in range(len(fp32))}
        lists = [[i] for i in range(len(fp32))] if self.stage < 3 else [list(range(len(fp32)))]
        base = {"state": states, "param_groups": [{"lr": 0.1, "params": p} for p in lists]}
        if self.stage == 3:
            told = {"zero_stage": 3, "partition_count": self.ranks, "optimizer_state_dict": base, "fp32_flat_groups": fp32}
        else:
            if self.strip:
                sizes = [sum(v.numel() if not self.alignment else math.ceil(v.numel() / self.alignment) * self.alignment for v in g.values())
                         for g in self.groups]
                fp32 = [v[:max(0, min(v.numel(), n - rank * v.numel()))].clone() for v, n in zip(fp32, sizes)]
            told = {"zero_stage": self.stage, "partition_count": [self.ranks] * len(fp32), "single_partition_of_fp32_groups": fp32,
                    "base_optimizer_state": list(states.values()) if self.elastic else base}
            if self.alignment:
                told["param_alignment_paddings"] = [[-v.numel() % self.alignment for v in g.values()] for g in self.groups]
        return {"optimizer_state_dict": {"overflow": False, **told}, "ds_version": "0.19.8"}

    def write(self, directory, tag="global_step3"):
        inside = os.path.join(directory, tag)
        os.makedirs(inside)
        with open(os.path.join(directory, "latest"), "w") as f:
            f.write(tag)
        if self.stage < 3:
            torch.save(self.model_states(0), os.path.join(inside, "mp_rank_00_model_states.pt"))
        for r in range(self.ranks):
            if self.stage == 3:
                torch.save(self.model_states(r), os.path.join(inside, rank_name(r, "model")))
            torch.save(self.optim_states(r), os.path.join(inside, rank_name(r, "optim", self.bf16)))
        return inside


def rewrite(path, change):
    """Loads a file, lets change make another object of it, and saves that."""
    value = torch.load(path, weights_only=False)
    torch.save(change(value) or value, path)
