"""The file that a reader of notebooks 01 to 08 writes, as she would: short and plain. `bra.checks.build` tries it."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn


def partition_regions(x, grid):
    return rearrange(x, "b (i u) (j v) c -> b (i j) (u v) c", i=grid[0], j=grid[1])


def merge_regions(regions, grid, size):
    return rearrange(regions, "b (i j) (u v) c -> b (i u) (j v) c", i=grid[0], u=size[0] // grid[0])


def pad_to_grid(x, grid):
    h, w = x.shape[1:3]
    below, beside = -h % grid[0], -w % grid[1]
    valid_map = F.pad(torch.ones(h, w, dtype=torch.bool), (0, beside, 0, below))
    return F.pad(x, (0, 0, 0, beside, 0, below)), valid_map


def region_means(regions, valid=None):
    if valid is None:
        return regions.mean(dim=2)
    total = (regions * valid[:, :, None]).sum(dim=2)
    return total / valid.sum(dim=1, keepdim=True).clamp(min=1)


def region_affinity(q_means, k_means):
    return q_means @ k_means.transpose(1, 2)


def top_k_regions(affinity, k):
    return affinity.topk(k, dim=-1).indices


def gather_regions(regions, index):
    image = torch.arange(len(regions))[:, None, None]
    return regions[image, index].flatten(2, 3)


def attend(q, k, v, index, heads, scale=None, valid=None):
    scale = (q.shape[-1] // heads) ** -0.5 if scale is None else scale
    keys, values = gather_regions(k, index), gather_regions(v, index)
    q, keys, values = (rearrange(x, "b r n (m d) -> b r m n d", m=heads) for x in (q, keys, values))
    scores = scale * q @ keys.transpose(-2, -1)
    some = torch.ones(1)
    if valid is not None:
        valid_keys = valid[index].flatten(2)[:, :, None, None]  # b r 1 1 (k t)
        some = valid_keys.any(dim=-1, keepdim=True)
        scores = scores.masked_fill(~(valid_keys | ~some), -torch.inf)
    out = scores.softmax(dim=-1) @ values * some
    return rearrange(out, "b r m n d -> b r n (m d)")


class LocalContextEnhancement(nn.Module):
    def __init__(self, dim, kernel=5):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, v):
        return self.conv(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class BiLevelRoutingAttention(nn.Module):
    def __init__(self, dim, heads, grid, k):
        super().__init__()
        self.heads, self.grid, self.k, self.scale = heads, grid, k, dim**-0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.lce = LocalContextEnhancement(dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x):
        h, w = x.shape[1:3]
        padded, valid_map = pad_to_grid(x, self.grid)
        size = padded.shape[1:3]
        valid = partition_regions(valid_map[None, :, :, None], self.grid)[0, :, :, 0]  # r t
        q, k, v = self.qkv(partition_regions(padded, self.grid)).chunk(3, dim=-1)
        affinity = region_affinity(region_means(q, valid), region_means(k, valid)).detach()
        affinity = affinity.masked_fill(~valid.any(dim=1), -torch.inf)
        index = top_k_regions(affinity, self.k)
        out = merge_regions(attend(q, k, v, index, self.heads, self.scale, valid), self.grid, size)[:, :h, :w]
        nearby = self.lce(merge_regions(v, self.grid, size)[:, :h, :w])
        return self.out(out + nearby)
