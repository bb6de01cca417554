"""Stale runs of killed commands in Dagster's records: unfinished runs, and the pool slots that they occupy.

A pool admits one step at a time, and the slot of a killed process is never released, so every later run would wait
forever. Use only while holding the home's run lock, which proves that no other command is running.
"""

import dagster as dg

PROFILE_TAG = "candlecast/profile"  # only on runs of the command line
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
UNFINISHED = dg.RunsFilter(statuses=[status for status in dg.DagsterRunStatus if status not in ENDED])


def clear_stale_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark the command line's unfinished runs as failed and free the pool slots of ended runs.

    Runs of the UI are left alone: Dagster's run monitoring decides whether they are alive.

    Returns:
        The ids of the runs that were marked as failed.
    """
    stale = [run for run in instance.get_runs(UNFINISHED) if PROFILE_TAG in run.tags]
    for run in stale:
        instance.report_run_failed(run, "The process of this run was killed; a later command marked the run as failed.")
    for run_id in _slot_holders(instance):
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.status in ENDED:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    return [run.run_id for run in stale]


def _slot_holders(instance: dg.DagsterInstance) -> set[str]:
    """The runs that occupy a pool slot or wait for one."""
    log = instance.event_log_storage
    if not log.supports_global_concurrency_limits:
        return set()
    pools = [log.get_concurrency_info(pool) for pool in log.get_concurrency_keys()]
    claimed = {slot.run_id for pool in pools for slot in pool.claimed_slots}
    return claimed | {step.run_id for pool in pools for step in pool.pending_steps}
