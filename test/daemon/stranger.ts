const own = process.geteuid;
let pretended: number | undefined;

/**
 * The daemons that are started from now on take themselves for another uid, where they say who is who: to them this process is a
 * stranger, or one of their lists. Files keep the owner they have. Undefined ends it.
 */
export function pretendToRunAs(uid: number | undefined): void {
  pretended = uid;
}

process.geteuid = () => {
  // Of the lines: the error's own, this function, and who asks.
  const asked = pretended !== undefined && /\/daemon\/authentication\.js/.test(new Error('who').stack?.split('\n')[2] ?? '');
  return asked ? pretended! : (own?.() ?? -1);
};
