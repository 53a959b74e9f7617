import { awsOf } from './contenders.js';
import { micros, rate, times } from './numbers.js';

const at = (results, size) => results.embedded?.sizes.find((one) => one.size === size)?.variants;
const shape = (results, name) => results.daemon?.shapes?.find((one) => one.shape === name);
const figure = (value, than, what) => ({ value, than, what });

/** Each gives its figure, in words for somebody who never saw the project, or undefined. */
const HEADLINES = [
  (results) => {
    const ratio = at(results, 1024)?.encryptSync?.fasterThanNodeCrypto;
    return ratio && figure(times(ratio.ratio), 'the speed of node:crypto', 'encrypting 1 KiB in your own process');
  },
  (results) => {
    const variants = at(results, 1024);
    const aws = variants?.encryptSync && awsOf(variants);
    return (
      aws &&
      figure(
        times(aws.ns / variants.encryptSync.ns),
        'the speed of the AWS Encryption SDK',
        'encrypting 1 KiB in your own process',
      )
    );
  },
  (results) => {
    const ratio = shape(results, '1 x 256')?.daemonOverHttp;
    return ratio && figure(times(ratio.ratio), 'the rate of node:http + JSON', 'a server with 256 requests in flight');
  },
  (results) => {
    const served = shape(results, '1 x 256')?.daemon;
    return (
      served &&
      figure(
        rate(served.perSecond),
        results.pinned ? 'on one core' : 'by one process',
        'encrypts of 1 KiB, 256 in flight on one connection',
      )
    );
  },
  (results) => {
    const ratio = results.client?.kmsOverHttp;
    return (
      ratio && figure(times(ratio.ratio), 'the rate of a node:http client', 'a Node client end to end, a promise per request')
    );
  },
  (results) => {
    const one = results.latency?.oneCore?.find(({ server }) => server === 'daemon, node client');
    return one && figure(micros(one.p50), 'median round trip', 'one request at a time, a Node client and the daemon on one core');
  },
];

/** `{value, than, what}` of the largest figures that were measured. */
export const headlinesOf = (results) => HEADLINES.map((headline) => headline(results)).filter(Boolean);
