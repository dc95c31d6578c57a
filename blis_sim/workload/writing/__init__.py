"""Writing a stream of requests as a trace file, and saying what the format cannot hold.

What survives: every row of the table is a field of
:class:`~blis_sim.workload.request.RequestSpec`, every column a format.

====================  ===  =======  =====  ========  ========  ====  =======
field                 csv  parquet  azure  burstgpt  mooncake  blis  tracev2
====================  ===  =======  =====  ========  ========  ====  =======
arrival_us            yes  yes      from   yes       yes       yes   yes
                                    first
prompt_tokens         yes  yes      yes    yes       yes       yes   yes
output_tokens         yes  yes      yes    not 0     yes       yes   yes
max_output_tokens     yes  yes      no     no        no        no    no
prefix_group, tokens  yes  yes      no     no        blocks    ids   yes
session_id, round     yes  yes      no     no        blocks    ids   yes
prompt_id             yes  yes      no     no        blocks    ids   no
block_hashes          yes  yes      no     no        blocks    ids   no
slo_class, tenant     yes  yes      no     no        no        no    yes
priority              yes  yes      no     no        no        no    from 0
timeout_us            yes  yes      no     no        no        no    yes
abort_us              yes  yes      no     no        no        no    no
====================  ===  =======  =====  ========  ========  ====  =======

Times are exact to the microsecond everywhere. *blocks*: what prompts share survives as
``hash_ids`` of whole blocks of 512 tokens, without the names; *ids*: as equal token ids. The
request_id is the position of a row.
"""
