import time, sys, torch

t = time.process_time()
if sys.argv[1] == "a":
    torch.use_deterministic_algorithms(True)
else:
    torch.set_deterministic_debug_mode("error")
print("det", time.process_time() - t)
t = time.process_time()
m = torch.nn.Linear(3, 3)
o = torch.optim.AdamW(m.parameters(), fused=True)
print("optim", time.process_time() - t, "dynamo", "torch._dynamo" in sys.modules)
t = time.process_time()
m(torch.ones(2, 3)).sum().backward()
torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
o.step()
o.zero_grad()
print("step", time.process_time() - t, "dynamo", "torch._dynamo" in sys.modules)
