import type { DaemonConfig } from './config.js';

/** What a new reading of the configuration comes to for a daemon that runs. */
export interface Reloaded {
  /** What holds from now on: the live values of the new one, and the others as they were. */
  config: DaemonConfig;
  changed: string[];
  needsRestart: string[];
}

/** A master key that changed behind the same source is not seen: no copy is kept to compare it with. */
export function reloaded(current: DaemonConfig, next: DaemonConfig): Reloaded {
  const changed: string[] = [];
  const needsRestart: string[] = [];
  const shown = current.shown.map((before) => {
    const after = next.shown.find(({ key }) => key === before.key);
    if (after === undefined) return before;
    const isSame = JSON.stringify(after.value) === JSON.stringify(before.value);
    if (!isSame) (before.live ? changed : needsRestart).push(before.key);
    return isSame || before.live ? after : before;
  });
  const { tls, oidc, rates, unauthenticatedLoopbackRoles, logFile, logLevel, warnings } = next;
  // Whether loopback is open at all is not live: what it may is of the new reading, that it may is of the start.
  const loopback = current.allowUnauthenticatedLoopback ? unauthenticatedLoopbackRoles : [];
  const access = { ...next.access, unauthenticatedLoopbackRoles: loopback };
  return {
    config: { ...current, tls, oidc, access, rates, unauthenticatedLoopbackRoles, logFile, logLevel, warnings, shown },
    changed,
    needsRestart,
  };
}
