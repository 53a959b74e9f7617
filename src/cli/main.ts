#!/usr/bin/env node
import { run } from './program.js';

// A write that fails is met where it is made; without a listener it would end the process with a stack trace.
process.stdout.on('error', () => {});
process.stderr.on('error', () => {});
process.exitCode = await run(process.argv.slice(2));
