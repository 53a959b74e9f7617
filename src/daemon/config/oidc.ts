import { KmsError } from '../../errors.js';
import type { Role } from '../../wire/frames.js';
import { NAMES, type Name, titleOf, type Values } from './schema.js';
import type { Setting } from './setting.js';

/** Whose JWTs are taken, and what their subjects may do. */
export interface OidcConfig {
  /** The exact `iss`. */
  issuer: string;
  /** One of them must be in `aud`. */
  audience: readonly string[];
  /** Where the issuer's public keys are. */
  keys: { file: string } | { url: string };
  algorithms: readonly string[];
  clockSkewSeconds: number;
  /** By their exact `sub`. */
  subjects: Readonly<Record<Role, readonly string[]>>;
  rolesClaim: string | undefined;
  prefixesClaim: string | undefined;
}

const BESIDE_ISSUER = NAMES.filter((name) => name.startsWith('oidc') && name !== 'oidcIssuer');
const SUBJECTS = ['oidcClientSubjects', 'oidcAdminSubjects', 'oidcAuditorSubjects'] as const satisfies Name[];

function isGiven(values: Values, name: Name): boolean {
  const value = values[name];
  return value !== undefined && !(Array.isArray(value) && value.length === 0);
}

/**
 * Throws one line, which names the key, for settings that would come to nothing together: an issuer whose tokens could not be
 * verified or would say nothing, or settings for no issuer.
 */
export function refuseHalfOidc(settings: ReadonlyMap<Name, readonly Setting[]>, values: Values): void {
  const refuse = (name: Name, rule: string) => {
    throw new KmsError('INVALID_ARGUMENT', `${settings.get(name)?.[0]?.at ?? titleOf(name)}: ${rule}`);
  };
  if (values.oidcIssuer === undefined) {
    const alone = BESIDE_ISSUER.find((name) => settings.get(name)?.length);
    if (alone !== undefined) refuse(alone, 'means nothing without oidc.issuer');
    return;
  }
  if (!isGiven(values, 'oidcAudience')) refuse('oidcIssuer', 'needs oidc.audience: tokens for other services would be taken');
  const { oidcJwksFile, oidcJwksUrl, oidcRolesClaim, oidcPrefixesClaim } = values;
  if (oidcJwksFile !== undefined && oidcJwksUrl !== undefined) {
    refuse('oidcJwksUrl', `the keys are given already: ${settings.get('oidcJwksFile')?.[0]?.source}; give one of them`);
  }
  if (oidcJwksFile === undefined && oidcJwksUrl === undefined) refuse('oidcIssuer', 'needs oidc.jwks_file or oidc.jwks_url');
  if (oidcRolesClaim === undefined && !SUBJECTS.some((name) => isGiven(values, name))) {
    refuse('oidcIssuer', 'needs oidc.client_subjects, admin_subjects, auditor_subjects or roles_claim: nobody would have a role');
  }
  // As with access tokens: an admin may everything and an auditor sees everything, whatever the threads.
  const wider = SUBJECTS.find((name) => name !== 'oidcClientSubjects' && isGiven(values, name));
  if (oidcPrefixesClaim !== undefined && wider !== undefined) refuse(wider, 'does not go with oidc.prefixes_claim');
}

/** Of values that `refuseHalfOidc` let pass; undefined without an issuer. */
export function oidcOf(values: Omit<Values, 'socket' | 'endpoint'>): OidcConfig | undefined {
  const { oidcIssuer, oidcJwksFile, oidcJwksUrl } = values;
  if (oidcIssuer === undefined) return undefined;
  return {
    issuer: oidcIssuer,
    audience: values.oidcAudience,
    keys: oidcJwksFile === undefined ? { url: oidcJwksUrl as string } : { file: oidcJwksFile },
    algorithms: values.oidcAlgorithms,
    clockSkewSeconds: values.oidcClockSkewSeconds,
    subjects: { client: values.oidcClientSubjects, admin: values.oidcAdminSubjects, auditor: values.oidcAuditorSubjects },
    rolesClaim: values.oidcRolesClaim,
    prefixesClaim: values.oidcPrefixesClaim,
  };
}
