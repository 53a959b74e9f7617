import type { DaemonFlags } from '../config.js';
import { settingsOfFile } from './file-settings.js';
import { NAMES, type Name, placeOf } from './schema.js';
import type { Setting, Warning } from './setting.js';
import { readConfigFile } from './yaml-file.js';

export interface Layers {
  /** What was given for each key, the strongest first: flag, environment, file. */
  settings: Map<Name, Setting[]>;
  /** The configuration file itself. */
  file: Setting | undefined;
  warnings: Warning[];
}

/** An empty variable counts as absent, as shells and units leave them. */
function ofEnvironment(env: NodeJS.ProcessEnv, variables: readonly string[]): Setting | undefined {
  const name = variables.find((variable) => env[variable]);
  return name === undefined ? undefined : { source: name, at: name, given: env[name] as string, from: 'environment' };
}

function ofFlags(flags: DaemonFlags, name: Name): Setting | undefined {
  const { flag } = placeOf(name);
  if (flag === undefined) return undefined;
  if (name === 'logLevel' && flags.logLevel === undefined && flags.verbose) {
    return { source: '--verbose', at: '--verbose', given: 'debug', from: 'flag' };
  }
  const value = flags[name as keyof DaemonFlags];
  if (value === undefined) return undefined;
  const source = `--${flag}`;
  // Each of a repeated flag may be a list of its own.
  return { source, at: source, given: Array.isArray(value) ? value.join(',') : String(value), from: 'flag' };
}

function fileOf(flags: DaemonFlags, env: NodeJS.ProcessEnv): Setting | undefined {
  if (flags.config !== undefined) return { source: '--config', at: '--config', given: flags.config, from: 'flag' };
  return ofEnvironment(env, ['PROGRESSDB_KMS_CONFIG']);
}

/** Everything that was given. Reads the configuration file, and throws one line if that is not one. */
export function gather(flags: DaemonFlags, env: NodeJS.ProcessEnv): Layers {
  const file = fileOf(flags, env);
  const fromFile = file === undefined ? undefined : settingsOfFile(readConfigFile(String(file.given), file.source));
  const warnings = [...(fromFile?.warnings ?? [])];
  if (env['PROGRESSDB_KMS_BINARY']) {
    warnings.push({ event: 'ignored_variable', source: 'PROGRESSDB_KMS_BINARY', advice: 'is not read any more; unset it' });
  }
  const settings = new Map<Name, Setting[]>();
  for (const name of NAMES) {
    const { variables = [], secret } = placeOf(name);
    let fromEnvironment = ofEnvironment(env, variables);
    if (fromEnvironment !== undefined && secret && file !== undefined) {
      const advice = `was ignored: with a configuration file (${file.source}) secrets do not come from the environment`;
      warnings.push({ event: 'ignored_variable', source: fromEnvironment.source, advice });
      fromEnvironment = undefined;
    }
    const given = [ofFlags(flags, name), fromEnvironment, fromFile?.settings.get(name)];
    settings.set(
      name,
      given.filter((setting) => setting !== undefined),
    );
  }
  return { settings, file, warnings };
}
