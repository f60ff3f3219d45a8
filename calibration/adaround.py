"""Adaptive rounding: which way each weight is rounded is learned, layer by layer, from what the layer outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.nn import functional

from calibration.annotate import fused_activation
from calibration.layers import Layer, Walk, bounds_of, evenly, layers_of, tensor_of, watch
from calibration.quantize import quantize
from calibration.ranges import Ranges
from calibration.repairs import Repairs
from calibration.simulate import Simulator

PICTURES = 256
ROWS = 4096
ITERATIONS = 1000
BATCH = 256
LEARNING_RATE = 1e-2
REGULARISATION = 0.01
WARM_UP = 0.2
BETA = (20.0, 2.0)
ZETA, GAMMA = 1.1, -0.1
HELD_OUT = 4
import os
MODE=os.environ.get('AR_MODE','paper')
ITERATIONS=int(os.environ.get('AR_IT',1000)); LEARNING_RATE=float(os.environ.get('AR_LR',1e-2)); BATCH=int(os.environ.get('AR_B',256)); REGULARISATION=float(os.environ.get('AR_REG',.01)); ROWS=int(os.environ.get('AR_ROWS',4096))
HOLD=os.environ.get('AR_HOLD','1')=='1'

def round_adaptively(graph, ranges, batches, on_layer=lambda *_: None):
    pictures = evenly(batches, PICTURES)
    count = sum(map(len, pictures))
    samples = {}
    layers = layers_of(graph)
    plans = {}
    for number, layer in enumerate(layers):
        plans[layer.node] = _Sample(layer, math.ceil(ROWS / count), number)
    watch(graph, pictures, lambda node, _s, output: plans[node].note_output(output))
    quantized, _ = quantize(graph, ranges, fold_weights=True)
    walk = Walk(quantized, pictures, Simulator)
    tensors = {}
    for number, (layer, node) in enumerate(zip(layers, walk.layers(), strict=True)):
        stored = node.args[1]
        plan = plans.pop(layer.node)
        if layer.weight is None or "dequantize" not in str(stored.target): continue
        on_layer(layer.weight, number, len(layers))
        weight = tensor_of(graph, layer.weight)
        scale = stored.args[1]
        scale = walk.values(scale)[0] if isinstance(scale, Node) else torch.tensor(scale)
        scale = scale.double().view(-1, *[1]*(weight.dim()-1))
        t = optimise(layer, weight, scale, tensor_bias(quantized, layer, node, walk), plan, walk.values(node.args[0]), number)
        if t is None: continue
        tensors[layer.weight] = (t.double()*scale).float()
        walk.replace(stored, (t*scale).float())
    return Repairs(tensors)

def tensor_bias(q, layer, node, walk):
    return walk.values(node.args[2])[0].detach() if layer.has_bias else None

class _Sample:
    def __init__(self, layer, per_picture, seed):
        self.layer, self.per = layer, per_picture
        self.gen = torch.Generator().manual_seed(seed)
        self.positions, self.targets = [], []
    def note_output(self, output):
        if not self.layer.is_convolution:
            self.targets.append(output.reshape(-1, output.shape[-1])); self.positions.append(None); return
        n, c, h, w = output.shape
        k = min(self.per, h * w)
        p = torch.rand(n, h * w, generator=self.gen).topk(k).indices
        self.positions.append(p)
        self.targets.append(output.flatten(2).gather(2, p[:, None].expand(n, c, k)).transpose(1, 2).reshape(n * k, c))
    def inputs(self, values, weight):
        if not self.layer.is_convolution:
            return torch.cat([v.reshape(-1, v.shape[-1]) for v in values])
        return torch.cat([self.patches(v, p, weight) for v, p in zip(values, self.positions)])
    def patches(self, x, p, weight):
        a = self.layer.node.args
        st = list(a[3]) if len(a)>3 else [1,1]; pd = list(a[4]) if len(a)>4 else [0,0]; dl=list(a[5]) if len(a)>5 else [1,1]
        st=st*2 if len(st)==1 else st; pd=pd*2 if len(pd)==1 else pd; dl=dl*2 if len(dl)==1 else dl
        kh,kw = weight.shape[2:]
        h = (x.shape[2]+2*pd[0]-dl[0]*(kh-1)-1)//st[0]+1
        w = (x.shape[3]+2*pd[1]-dl[1]*(kw-1)-1)//st[1]+1
        x = functional.pad(x, (pd[1],pd[1],pd[0],pd[0]))
        rows = (p//w*st[0])[...,None,None] + torch.arange(kh)[:,None]*dl[0]
        cols = (p%w*st[1])[...,None,None] + torch.arange(kw)*dl[1]
        i = torch.arange(len(x)).view(-1,1,1,1)
        out = x.movedim(1,-1)[i, rows, cols]   # n,k,kh,kw,C
        n,k = p.shape
        g = self.layer.groups
        return out.reshape(n*k, kh*kw, g, -1).permute(0,2,3,1).reshape(n*k, g, -1)

def forward(x, w, groups):
    # x [M,g,K] w [O,K]
    if groups == 1:
        return x[:,0] @ w.T
    if w.shape[0]==groups:
        return (x * w).sum(2)
    return torch.einsum('mgk,gok->mgo', x, w.view(groups, -1, w.shape[1])).flatten(1)

def optimise(layer, weight, scale, bias, plan, values, seed):
    g = layer.groups
    x = plan.inputs(values, weight); y = torch.cat(plan.targets)
    if x.dim()==2: x = x[:,None]
    low, high = bounds_of(fused_activation(layer.node))
    y = y.clamp(low, high)
    shape = weight.shape
    exact = (weight.double()/scale)
    nearest = exact.round().clamp(-127,127).flatten(1).float()
    groupmax = weight.abs().flatten(1).amax(1,keepdim=True) if scale.numel()>1 else weight.abs().max()
    frozen = weight.abs().flatten(1) >= groupmax
    floor = torch.where(frozen, nearest, exact.floor().flatten(1).float())
    frac = (exact.flatten(1).float()-floor).clamp(0,1)
    s = scale.flatten(1).float()
    b = bias if bias is not None else torch.zeros(weight.shape[0])
    def error(w, rows=slice(None)):
        return float((((forward(x[rows], w*s, g)+b).clamp(low,high)-y[rows])**2).sum(1).mean())
    rows = len(x)
    held = torch.zeros(rows, dtype=torch.bool)
    if HOLD:
        pic = torch.arange(rows)*256//rows
        held = pic%HELD_OUT==HELD_OUT-1
    train = (~held).nonzero().flatten(); check = held.nonzero().flatten() if held.any() else train
    V = (-torch.log((ZETA-GAMMA)/(frac-GAMMA)-1))
    V = torch.where(frozen, torch.full_like(V,-20), V).requires_grad_()
    opt = torch.optim.Adam([V], lr=LEARNING_RATE, fused=True)
    gen = torch.Generator().manual_seed(seed)
    base = error(nearest)
    norm = 1.0 if MODE=='paper' else 1/max(error(nearest,train),1e-30)
    if MODE=='norm2': lam = REGULARISATION/ (~frozen).sum().item()*1
    t0=__import__('time').time()
    for it in range(ITERATIONS):
        r = train[torch.randint(len(train),(BATCH,),generator=gen)]
        h = (torch.sigmoid(V)*(ZETA-GAMMA)+GAMMA).clamp(0,1)
        out = (forward(x[r], (floor+h)*s, g)+b).clamp(low,high)
        loss = (out-y[r]).square().sum(1).mean()*norm
        if it >= WARM_UP*ITERATIONS:
            rel = (it-WARM_UP*ITERATIONS)/(ITERATIONS*(1-WARM_UP))
            beta = BETA[1]+.5*(BETA[0]-BETA[1])*(1+math.cos(math.pi*rel))
            reg = (1-(2*h-1).abs().pow(beta)).sum()
            loss = loss + (REGULARISATION if MODE!='norm2' else lam)*reg
        opt.zero_grad(); loss.backward(); opt.step()
    with torch.no_grad():
        h = (torch.sigmoid(V)*(ZETA-GAMMA)+GAMMA).clamp(0,1)
        w = floor + (h>=.5)
        soft = float(((h>0.05)&(h<.95)).float().mean())
        e0,e1=error(nearest,check),error(w,check); t0e,t1e=error(nearest,train),error(w,train)
        es=error(floor+h,train)
    if os.environ.get('AR_V'): print('%-28s rows %5d flips %.3f soft %.3f train %.4g->%.4g (soft %.4g) check %.4g->%.4g  %.1fs'%(layer.weight,rows,float((w!=nearest).float().mean()),soft,t0e,t1e,es,e0,e1,__import__('time').time()-t0),flush=True)
    if e1>=e0: return None
    return w.view(shape)
