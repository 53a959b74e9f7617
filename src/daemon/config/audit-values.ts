import { z } from 'zod';
import { type ForwardTarget, parseTarget } from '../../audit/forward/target.js';
import { MAX_FORWARD_TARGETS } from '../../limits.js';
import { list } from './values.js';

const target = z.string().transform((text, context): ForwardTarget => {
  const found = parseTarget(text);
  if (!('rule' in found)) return found;
  context.addIssue({ code: 'custom', message: found.rule });
  return z.NEVER;
});

/** Who gets a copy of each line of the audit log. */
export const forwardTargets = list
  .pipe(z.array(target))
  .refine((all) => all.length <= MAX_FORWARD_TARGETS, `must name at most ${MAX_FORWARD_TARGETS} receivers`);
