// Blocks of different servers in turn, so that a slow spell of the machine hits all of them.

/** Runs each of `loads` once per turn, every other turn from the last to the first, and gives its results by its name. */
export async function inTurns(turns, loads, say) {
  const results = Object.fromEntries(Object.keys(loads).map((name) => [name, []]));
  const order = Object.entries(loads);
  for (let turn = 0; turn < turns; turn++) {
    for (const [name, load] of order) results[name].push(await load());
    order.reverse();
    say(`turn ${turn + 1} of ${turns}`);
  }
  return results;
}
