import { count } from '../numbers.js';
import { howMeasured, storeTables } from '../scaling/tables.js';

export function scaleSection(scale) {
  const most = Math.max(...scale.places.map(({ keys }) => keys));
  return {
    title: `Scale: up to ${count(most)} keys`,
    part: 'scale',
    text: [
      `A run of its own, ${scale.at.slice(0, 10)}. docs/SCALING.md has the model that is made of these figures, and what gives first.`,
      ...howMeasured(scale),
    ],
    tables: storeTables(scale),
  };
}
