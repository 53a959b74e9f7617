// As `progressdb-kms bench` takes them.
export { median, pairedRatio, quartiles } from '../dist/bench/statistics.js';
