"""``--decisions-out``: one row per decision of the router and candidate.

The columns are time_us, request_id, purpose, instance, is_chosen, score and regret. A decision
has a row for each instance that could have taken the request; the best score has regret 0.
"""

from __future__ import annotations

from blis_sim.metrics.decision_columns import decision_columns
from blis_sim.report.columns_file import RunTable

DECISIONS = RunTable(
    "--decisions-out",
    decision_columns,
    "a run that kept its routing decisions; got one without them; run again with decisions on",
)
