"""Independent step-by-step reference of one engine instance, to be read beside the semantics.

Every block, token and step is handled one by one, without any shortcut; it shares nothing with
the engine under test but the latency model. ``run()`` fills records, counters and ITL counts.
"""

from collections import Counter, OrderedDict, defaultdict
from itertools import takewhile
from math import ceil, inf

from blis_sim.latency.base import Batch, PrefillChunk


class Record:
    computed = generated = output_tokens = cached_tokens = recached_tokens = num_preemptions = 0
    enqueued_us = scheduled_us = first_token_us = last_token_us = None

    def __init__(self, spec, cfg, frontend_us):
        self.spec, self.tokens, self.blocks = spec, spec.prompt_tokens, []
        room = cfg.max_model_len - spec.prompt_tokens
        limit = room if spec.max_output_tokens is None else spec.max_output_tokens
        self.status = "in_frontend" if 0 < room >= limit else "dropped"
        self.owes = min(spec.output_tokens, limit)
        timeout, abort = (inf if t is None else t for t in (spec.timeout_us, spec.abort_us))
        self.deadline_us = spec.arrival_us + min(timeout, abort)
        self.end_status = "timed_out" if timeout <= abort else "aborted"
        self.enter_us = spec.arrival_us + frontend_us
        urgency = {"priority": spec.priority, "sjf": spec.prompt_tokens}.get(cfg.policy)
        self.rank = () if urgency is None else (urgency, spec.arrival_us, spec.request_id)


class Reference:
    def __init__(self, requests, latency, settings):
        self.latency, self.cfg, self.size = latency, settings, settings.block_size
        self.records = [Record(spec, settings, latency.queueing_time(spec)) for spec in requests]
        self.waiting, self.running, self.now, self.victims = [], [], 0, 0
        self.free = OrderedDict.fromkeys(range(settings.num_kv_blocks))  # least recent first
        self.counters, self.itl, self.refs, self.content_of = Counter(), Counter(), Counter(), {}
        self.copies = defaultdict(dict)  # content -> findable blocks, oldest first

    def run(self):  # from step end to step end: in between nothing changes but who waits
        step, ends, fixed, horizon = None, inf, None, self.cfg.horizon_us or inf
        shows_up = lambda r: (min(r.enter_us, r.deadline_us), r.spec.request_id)  # noqa: E731
        coming = sorted((r for r in self.records if r.status != "dropped"), key=shows_up)
        while (step or coming) and self.now < horizon:
            at = min(ends if step else shows_up(coming[0])[0], horizon)
            used, dt = self.cfg.num_kv_blocks - len(self.free), at - self.now
            self.counters.update(kv_block_us=dt * used, running_us=dt * len(self.running))
            self.now = at
            if step and ends == at:
                step = self.finish(*step)
            while coming and shows_up(coming[0])[0] <= at:
                r = coming.pop(0)
                if r.deadline_us < r.enter_us:
                    r.status = r.end_status
                else:
                    r.status, r.enqueued_us = "waiting", r.enter_us
                    self.waiting.append(r)
            leaving = [r for r in self.waiting + self.running * (not step) if r.deadline_us <= at]
            for r in sorted(leaving, key=lambda r: r.spec.request_id):
                self.remove(r, r.end_status)
            if not step:
                step = fixed or self.schedule()
                while not step and self.has_preempted:
                    step = self.schedule()
                ends = at + step[0] if step else inf
                fixed = self.schedule() if step and self.cfg.async_scheduling else None
        self.counters["num_preemptions"] = sum(r.num_preemptions for r in self.records)
        self.records = [r for r in self.records if r.spec.arrival_us <= horizon]
        return self

    def remove(self, r, status):
        (self.running if r.status == "running" else self.waiting).remove(r)
        self.refs.subtract(r.blocks)
        self.free.update((b, None) for b in reversed(r.blocks) if not self.refs[b])
        r.blocks, r.status = [], status

    def finish(self, duration, batch, yielding):
        self.counters.update(num_steps=1, busy_us=duration)
        self.counters.update(batch_requests=len(batch), batch_tokens=sum(batch.values()))
        for r in (r for r in yielding if r.deadline_us >= self.now):  # the others have left
            r.generated = min(r.generated + 1, r.owes)
            seen = self.now + r.generated * self.latency.output_token_time()
            self.itl[seen - r.last_token_us if r.output_tokens else None] += 1
            r.first_token_us = r.first_token_us or seen
            r.last_token_us, r.output_tokens = seen, r.generated
            if r.generated == r.owes:
                self.remove(r, "completed" if seen <= r.deadline_us else r.end_status)

    def schedule(self):  # one pass: (duration, batch, who yields a token), None when empty
        cfg, self.batch, self.budget = self.cfg, {}, self.cfg.max_num_batched_tokens
        self.has_preempted, threshold = False, cfg.long_prefill_token_threshold
        self.waiting.sort(key=lambda r: r.rank)
        for r in self.running + self.waiting:
            is_new = r.status == "waiting"
            if is_new and (self.has_preempted or len(self.running) == cfg.max_num_seqs):
                continue  # also one preempted in this pass
            if not self.budget or r.tokens == r.spec.prompt_tokens + max(r.owes, 1):
                continue  # also one whose last token is in flight
            hits = self.lookup(r) if is_new and cfg.prefix_caching else []
            want = r.tokens - r.computed - len(hits) * self.size
            num_tokens = min(want, threshold or want, self.budget)
            if is_new and num_tokens < want and not cfg.chunked_prefill:
                break
            end = r.tokens - want + num_tokens
            goal = r.tokens if is_new and cfg.reserve_full_sequence else end
            missing = ceil(goal / self.size) - len(r.blocks) - len(hits)
            missing += sum(block in self.free for block in hits)
            while r.status == "running" and missing > len(self.free):
                self.preempt()
            if missing > len(self.free) if is_new else r.status == "waiting":
                break
            self.give(r, hits, end)
        used = cfg.num_kv_blocks - len(self.free)
        self.counters["peak_kv_blocks"] = max(self.counters["peak_kv_blocks"], used)
        return self.priced() if self.batch else None

    def content(self, spec, j):  # names block j and, like a chained hash, all before it
        is_prompt = (j + 1) * self.size <= spec.prompt_tokens
        if spec.block_hashes is not None:
            piece = ((j + 1) * self.size - 1) // spec.hash_block_tokens
            own = ("own", spec.request_id, j)
            return ("hash", spec.block_hashes[: piece + 1], j) if is_prompt else own
        if spec.prefix_group is not None and (j + 1) * self.size <= spec.prefix_tokens:
            return "group", spec.prefix_group, j
        prefix = spec.prefix_group, spec.prefix_tokens
        if spec.session_id is not None:
            return "session", spec.session_id, *prefix, j
        if spec.prompt_id is not None and is_prompt:
            return "prompt", spec.prompt_id, *prefix, j
        return "own", spec.request_id, j

    def lookup(self, r):
        contents = (self.content(r.spec, j) for j in range((r.tokens - 1) // self.size))
        return [next(iter(c)) for c in takewhile(len, (self.copies[name] for name in contents))]

    def preempt(self):
        r = self.running[-1]
        if self.cfg.policy == "priority":
            r = max(self.running, key=lambda r: r.rank)
        self.budget += self.batch.pop(r, 0)
        self.victims, r.num_preemptions, r.computed = self.victims + 1, r.num_preemptions + 1, 0
        self.remove(r, "waiting")
        self.waiting.insert(0, r)
        self.has_preempted = True

    def give(self, r, hits, end):  # tokens and blocks up to ``end``; admits who waits
        if r.status == "waiting":
            self.waiting.remove(r)
            self.running.append(r)
            r.status, r.computed = "running", len(hits) * self.size
            if r.scheduled_us is None:
                r.scheduled_us, r.cached_tokens = self.now, r.computed
            else:
                r.recached_tokens += r.computed
        for block in hits:
            self.free.pop(block, None)
        missing = ceil(end / self.size) - len(r.blocks) - len(hits)
        new = [self.free.popitem(last=False)[0] for _ in range(missing)]
        for block in new:
            self.copies[self.content_of.pop(block, None)].pop(block, None)
        r.blocks += hits + new
        self.refs.update(hits + new)
        for j in range(r.computed // self.size, end // self.size):
            content = self.content_of[r.blocks[j]] = self.content(r.spec, j)
            self.copies[content][r.blocks[j]] = None
        self.batch[r], r.computed = end - r.computed, end
        self.budget -= self.batch[r]

    def priced(self):
        batch, yielding = self.batch, [r for r in self.batch if r.computed == r.tokens]
        decodes = {r for r in yielding if batch[r] == 1 and r.tokens > r.spec.prompt_tokens}
        chunks = [PrefillChunk(r.computed - n, n) for r, n in batch.items() if r not in decodes]
        work = Batch(len(decodes), sum(r.computed - 1 for r in decodes), chunks)
        for r in yielding:
            r.tokens += 1
        times = self.latency.step_time(work), self.latency.scheduling_time()
        duration = max(times) if self.cfg.async_scheduling else sum(times)
        duration += self.victims * self.latency.preemption_time()
        self.victims = 0
        return max(duration, 1), batch, yielding
