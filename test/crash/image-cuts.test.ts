import test from 'ava';
import { DiskImage } from './disk-image.js';
import { newGround, removeGround } from './ground.js';
import { ImageRounds } from './image-rounds.js';
import { newSeed, randomFrom } from './random.js';

const MEGABYTES = 64;
const CUTS = 4;

test.serial(
  'a power cut under a daemon on ext4, in rotations under load, loses no answer; a disk that lies is found out',
  async (t) => {
    const ground = newGround();
    t.teardown(() => removeGround(ground));
    let image: DiskImage;
    try {
      image = DiskImage.make(ground.directory, MEGABYTES);
    } catch (error) {
      t.log(`SKIPPED: ${(error as Error).message}`);
      t.pass();
      return;
    }
    const seed = newSeed();
    try {
      const load = await new ImageRounds(image, ground, randomFrom(seed)).daemon(CUTS);
      t.log(`seed ${seed}: ${CUTS} cuts, ${load.answered} operations answered, ${load.rotations} rotations`);
      t.true(load.answered > 0 && load.rotations > 0);
      const lying = new ImageRounds(image, ground, randomFrom(seed), 'lying');
      await t.throwsAsync(lying.careless(CUTS), { message: /is gone|no such key|no keyring|damaged/ });
    } finally {
      image.remove();
    }
  },
);
