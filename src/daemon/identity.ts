import { createHash } from 'node:crypto';
import { ACTOR_PATTERN } from '../limits.js';
import type { Role } from '../wire/frames.js';

/** What an identity is for, where that is less than all threads and keys. */
export interface Narrowing {
  /** Only keys of threads whose id begins with one of these. */
  threadPrefixes?: readonly string[];
  /** Only keys that it made itself. */
  own?: boolean;
}

/** Who may call. */
export interface Access {
  /** May create keys, encrypt and decrypt. */
  allowedUids: readonly number[];
  /** May do everything. */
  adminUids: readonly number[];
  /** May read states and lists; neither data nor keys. */
  auditorUids: readonly number[];
  /** Names of client certificates, by what they may; see `certificateNames`. */
  certificates?: Readonly<Record<Role, readonly string[]>>;
  /** Of identities by uid or certificate, by their actors. */
  narrowed?: Readonly<Record<string, Narrowing>>;
  /** What TCP peers on loopback may that nothing else identifies; usually nothing. */
  unauthenticatedLoopbackRoles: readonly Role[];
}

/** A caller the daemon knows. */
export interface Identity extends Narrowing {
  /** How records and logs name it. */
  actor: string;
  roles: ReadonlySet<Role>;
}

/** Admitted, and nobody until a token says who: may only be greeted and asked after its health. */
export const ANONYMOUS: Identity = { actor: 'anonymous', roles: new Set() };

/** The overflow uid: what a uid of another user namespace looks like, so it is everybody and nobody. */
export const OVERFLOW_UID = 65534;
/** (uid_t)-1: "no uid" in every system call that takes one. */
export const NO_UID = 0xffffffff;

/**
 * The identity of a peer's uid, undefined for one that is refused. The daemon's own uid is admin and client, unless roles are
 * configured and name it: then the lists decide. `allowedUids` alone takes nothing from it, since installations that know
 * only that list name their own uid there.
 */
export function identify(uid: number, ownUid: number, access: Access): Identity | undefined {
  if (uid === OVERFLOW_UID || uid === NO_UID || !Number.isInteger(uid) || uid < 0) return undefined;
  const roles = new Set<Role>();
  if (access.allowedUids.includes(uid)) roles.add('client');
  if (access.adminUids.includes(uid)) roles.add('admin');
  if (access.auditorUids.includes(uid)) roles.add('auditor');
  const rolesConfigured = access.adminUids.length + access.auditorUids.length > 0;
  if (uid === ownUid && !(rolesConfigured && roles.size > 0)) {
    roles.add('client');
    roles.add('admin');
  }
  return roles.size === 0 ? undefined : { actor: `uid:${uid}`, roles };
}

/** Of a SHA-256, as many hex digits as an actor has room for behind the longest kind: more than 200 bits. */
const HASH_DIGITS = 52;

/**
 * How records and logs name whom others have named: by its kind and that name; where records have no room or no characters for
 * it, by its hash, which is as much its own. Nobody can take a name that looks like the hash of another one.
 */
export function actorOf(kind: 'cert' | 'oidc', name: string): string {
  const actor = `${kind}:${name}`;
  if (ACTOR_PATTERN.test(actor) && !name.startsWith('sha256:')) return actor;
  return `${kind}:sha256:${createHash('sha256').update(name).digest('hex').slice(0, HASH_DIGITS)}`;
}

/** Of a numeric address: whether only this machine can be behind it. */
export function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.');
}

/** Who is narrowed is a client and nothing more: the other roles are for all keys. */
export function narrowedBy(narrowed: Access['narrowed'], identity: Identity): Identity {
  const to = narrowed?.[identity.actor];
  if (to === undefined) return identity;
  return { ...identity, ...to, roles: new Set(may(identity, 'client') ? ['client'] : []) };
}

/** Whether one may exactly what the other may, under the same name. */
export function isSame(a: Identity, b: Identity): boolean {
  if (a.actor !== b.actor || (a.own === true) !== (b.own === true) || a.roles.size !== b.roles.size) return false;
  for (const role of a.roles) if (!b.roles.has(role)) return false;
  return a.threadPrefixes === b.threadPrefixes || a.threadPrefixes?.join() === b.threadPrefixes?.join();
}

/** Whether the identity may do what needs `least`; admin may everything, client and auditor do not include each other. */
export function may(identity: Identity, least: Role): boolean {
  return identity.roles.has('admin') || identity.roles.has(least);
}
