import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ERROR_TABLE } from '../../dist/errors.js';
import { checkOptions, checkServes, type Data, documentsOf } from './files.js';

const [DEPLOYMENT] = documentsOf('deploy/kubernetes/sidecar.yaml');
const [CLAIM, JOB] = documentsOf('deploy/kubernetes/first-run.yaml');
const POD = DEPLOYMENT.spec.template.spec;
const FIRST = JOB.spec.template.spec;
const [KMS] = POD.initContainers;
const [APP] = POD.containers;

function volume(pod: Data, name: string): Data {
  return pod.volumes.find((one: Data) => one.name === name);
}

function mountsOf({ volumeMounts }: Data): Record<string, Data> {
  return Object.fromEntries(volumeMounts.map((mount: Data) => [mount.name, mount]));
}

function folderWithKey(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'kms-deploy-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'master-key'), '');
  return folder;
}

test('the manifests are of kinds and versions that Kubernetes has', (t) => {
  t.deepEqual(
    [DEPLOYMENT, CLAIM, JOB].map(({ apiVersion, kind }) => `${apiVersion} ${kind}`),
    ['apps/v1 Deployment', 'v1 PersistentVolumeClaim', 'batch/v1 Job'],
  );
});

test('the daemon knows every option, and finds the key where the Secret is mounted', (t) => {
  checkOptions(t, KMS.args);
  checkOptions(t, FIRST.containers[0].args);
  const [{ name, value }] = KMS.env;
  t.is(value, mountsOf(KMS)['master-key'].mountPath);
  checkServes(t, KMS.args, { [name]: folderWithKey(t), PROGRESSDB_KMS_DATA_DIR: '/var/lib/progressdb-kms/data' });
  t.true(FIRST.containers[0].args.includes(`--master-key-file=${value}/master-key`));
});

test('only the daemon has the key and the data, and the application cannot replace its socket', (t) => {
  const [kms, app] = [mountsOf(KMS), mountsOf(APP)];
  t.deepEqual(Object.keys(app), ['socket']);
  t.true(app['socket'].readOnly && kms['master-key'].readOnly);
  t.is(app['socket'].mountPath, kms['socket'].mountPath);
  t.is(volume(POD, 'socket').emptyDir.medium, 'Memory');
  for (const pod of [POD, FIRST]) {
    t.is(volume(pod, 'master-key').secret.secretName, 'progressdb-kms');
    t.is(volume(pod, 'data').persistentVolumeClaim.claimName, CLAIM.metadata.name);
  }
  t.true(KMS.args.includes(`--allowed-uids=${APP.securityContext.runAsUser}`));
  t.true(KMS.args.includes(`--group=${POD.securityContext.fsGroup}`));
});

test('a Secret is for its owner; a volume is not opened to the group at every start', (t) => {
  for (const pod of [POD, FIRST]) {
    // YAML 1.1, which Kubernetes reads, takes it for octal, as it is meant; a reader of YAML 1.2 sees the digits.
    t.is(String(volume(pod, 'master-key').secret.defaultMode), '400');
    t.is(pod.securityContext.fsGroupChangePolicy, 'OnRootMismatch');
  }
});

test('no container has rights that it does not need', (t) => {
  for (const pod of [POD, FIRST]) {
    t.true(pod.securityContext.runAsNonRoot);
    t.false(pod.automountServiceAccountToken);
    t.is(pod.securityContext.seccompProfile.type, 'RuntimeDefault');
  }
  for (const { securityContext } of [KMS, APP, FIRST.containers[0]]) {
    t.false(securityContext.allowPrivilegeEscalation);
    t.deepEqual(securityContext.capabilities.drop, ['ALL']);
  }
  t.true(KMS.securityContext.readOnlyRootFilesystem);
});

test('one daemon at a time holds the data, and starts before the application', (t) => {
  t.is(DEPLOYMENT.spec.replicas, 1);
  t.is(DEPLOYMENT.spec.strategy.type, 'Recreate');
  t.is(KMS.restartPolicy, 'Always');
  t.deepEqual(KMS.startupProbe.exec.command.slice(0, 2), ['progressdb-kms', 'status']);
});

test('no probe opens the store itself: each names the socket', (t) => {
  const named = `--socket=${mountsOf(KMS)['socket'].mountPath}/kms.sock`;
  for (const probe of [KMS.startupProbe, KMS.readinessProbe, KMS.livenessProbe]) {
    t.regex(probe.exec.command.join(' '), new RegExp(`progressdb-kms status ${named}(;|$)`));
  }
});

test('a daemon that somebody sealed is not ready, and is not restarted for it', (t) => {
  const passing = (probe: Data) => {
    const [, codes = ''] = /in ([\d |]+)\) ;;/.exec(probe.exec.command[2]) ?? [];
    return codes.split(' | ').map(Number);
  };
  const { SEALED, STORE_UNAVAILABLE } = ERROR_TABLE;
  t.deepEqual(passing(KMS.readinessProbe), [0, STORE_UNAVAILABLE.exit]);
  t.deepEqual(passing(KMS.livenessProbe), [0, SEALED.exit, STORE_UNAVAILABLE.exit]);
});
