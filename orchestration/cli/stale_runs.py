"""What a killed command leaves in Dagster's records: runs that never ended, and their places in the pools.

A pool lets one step in at a time, and the place of a killed process is never given back, so that every later run would
wait for it for ever. Only to be used under the home's run lock, which proves that no other command is at work.
"""

import dagster as dg

PROFILE_TAG = "candlecast/profile"  # on the command line's runs alone
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
UNFINISHED = dg.RunsFilter(statuses=[status for status in dg.DagsterRunStatus if status not in ENDED])


def clear_leftovers(instance: dg.DagsterInstance) -> list[str]:
    """Report the command line's unfinished runs failed, and free the places of runs that are over; returns the former.

    The UI's runs are left alone: whether they live is Dagster's to know.
    """
    dead = [run for run in instance.get_runs(UNFINISHED) if PROFILE_TAG in run.tags]
    for run in dead:
        instance.report_run_failed(run, "The process of this run was killed; a later command found it so.")
    for run_id in _holders(instance):
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.status in ENDED:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    return [run.run_id for run in dead]


def _holders(instance: dg.DagsterInstance) -> set[str]:
    """The runs that hold a place in a pool, or wait for one."""
    log = instance.event_log_storage
    if not log.supports_global_concurrency_limits:
        return set()
    pools = [log.get_concurrency_info(pool) for pool in log.get_concurrency_keys()]
    holding = {slot.run_id for pool in pools for slot in pool.claimed_slots}
    return holding | {step.run_id for pool in pools for step in pool.pending_steps}
