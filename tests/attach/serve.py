"""A llama.cpp server for tests (pip package xllamacpp): serve.py MODEL.gguf KIND [KEY], KIND as draft-simple, ngram-simple or none.

Prints its address and runs until standard input closes. With draft-simple the model drafts for itself. One thread: threads that wait for
each other spin, and tests run beside others.
"""
import sys
import xllamacpp as x

model, kind = sys.argv[1], sys.argv[2]
p = x.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.endpoint_metrics, p.port = model, 1024, 1, True, 0
if len(sys.argv) > 3:
    p.api_keys = [sys.argv[3]]
for threads in (p.cpuparams, p.cpuparams_batch, p.speculative.draft.cpuparams, p.speculative.draft.cpuparams_batch):
    threads.n_threads = 1
if kind != "none":
    name = "COMMON_SPECULATIVE_TYPE_" + kind.upper().replace("-", "_")
    p.speculative.types = [getattr(x.common_speculative_type, name)]
if kind == "draft-simple":
    p.speculative.draft.mparams.path = model
server = x.Server(p)
print(server.listening_address, flush=True)
sys.stdin.read()
