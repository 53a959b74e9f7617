import { AUDIT_SCENARIOS } from './audit-scenarios.js';
import { IMPORT_SCENARIOS } from './import-scenarios.js';
import { ROTATION_SCENARIOS } from './rotation-scenarios.js';
import { STORE_SCENARIOS } from './scenarios.js';

export const ALL_SCENARIOS = [...STORE_SCENARIOS, ...ROTATION_SCENARIOS, ...AUDIT_SCENARIOS, ...IMPORT_SCENARIOS];
