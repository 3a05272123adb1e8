/** Whether this is `npm run test:crash`, which leaves nothing out, or a part of the normal run. */
export const isComplete = process.env.FIRN_TEST_COMPLETE === '1';
