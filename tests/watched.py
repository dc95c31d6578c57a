"""The reference engine, noting how often it goes where it is difficult."""

from collections import Counter

from tests.reference import Reference


class WatchedReference(Reference):
    """Counts in ``reached``: refused_passes, waiting_aborts, boundary_arrivals, and hit blocks
    by kind: group_hits, session_hits, own_hits (its own, after a preemption)."""

    def __init__(self, *args):
        super().__init__(*args)
        self.reached, self.step_ends = Counter(), set()

    def run(self):
        super().run()
        del self.itl[None]  # first tokens have no gap
        arrivals = [r.enqueued_us for r in self.records]
        self.reached["boundary_arrivals"] = sum(at in self.step_ends for at in arrivals)
        return self

    def finish(self, *step):
        self.step_ends.add(self.now)
        return super().finish(*step)

    def remove(self, r, status):
        gone = r.status == "waiting" and status in {"aborted", "timed_out"}
        self.reached["waiting_aborts"] += gone
        super().remove(r, status)

    def schedule(self):
        """A head that stays with a seat and budget left was refused for want of blocks."""
        step = super().schedule()
        has_seat = len(self.running) < self.cfg.max_num_seqs
        if self.waiting and has_seat and self.budget and not self.has_preempted:
            self.reached["refused_passes"] += self.cfg.chunked_prefill
        return step

    def give(self, r, hits, end):
        self.reached.update(f"{self.content_of[block][0]}_hits" for block in hits)
        super().give(r, hits, end)
