"""External drafter for speclight, run as a process (docs/external.md).

It proposes the tokens that followed the last two tokens, or the last one, earlier in the text.

    speclight run --drafter external --external 'python3 examples/external.py'
"""

import json
import sys
from collections import Counter, defaultdict

text = []
followers = defaultdict(Counter)


def learn(tokens):
    for token in tokens:
        for n in (1, 2):
            if len(text) >= n:
                followers[tuple(text[-n:])][token] += 1
        text.append(token)


def candidates(path, stop):
    """Returns the followers of the longest known context; some probability is left for unseen tokens."""
    context = (text + path)[-2:]
    for n in (2, 1):
        counts = followers.get(tuple(context[-n:]))
        if counts and len(context) >= n:
            total = sum(counts.values()) + len(counts)
            return [(token, count / total) for token, count in counts.most_common(3) if token not in stop]
    return []


def draft(budget, depth, stop):
    """Drafts the likeliest paths first, until the budget is full."""
    parents, tokens, qs = [], [], []
    front = [(q, 0, [], token, q) for token, q in candidates([], stop)]
    while front and depth > 0 and len(tokens) < budget - 1:
        front.sort(key=lambda item: -item[0])
        worth, parent, path, token, q = front.pop(0)
        parents.append(parent)
        tokens.append(token)
        qs.append(q)
        below = path + [token]
        if len(below) < depth:
            front += [(worth * p, len(tokens), below, t, p) for t, p in candidates(below, stop)]
    return {"parents": parents, "tokens": tokens, "q": qs}


for line in sys.stdin:
    request = json.loads(line)
    if request["from"] == 0:
        text, followers = [], defaultdict(Counter)
    learn(request["tokens"])
    tree = draft(request["budget"], request["depth"], set(request["stop"]))
    print(json.dumps({"step": request["step"], "tree": tree}), flush=True)
