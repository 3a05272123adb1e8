// The package has one build for `import` and one for `require`, each with registrations of its own. `@azure/functions`
// requires it, so the app has to require it too; from a module, and through the bundler, that takes this file.
module.exports = require('@azure/functions-extensions-base');
