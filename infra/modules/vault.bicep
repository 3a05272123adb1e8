// The passphrase of the repository in a Key Vault. It stays with the archive: without it nothing can be restored.

@description('Name of the vault.')
param name string

@description('Region.')
param location string

@description('Tags of all resources.')
param tags object

@description('Taken as the passphrase only where the vault has none.')
@secure()
param passphrase string

@description('True makes a key that may wrap the master key one day; nothing uses it yet.')
param wrappingKey bool

@description('True closes the public endpoint; a private endpoint is needed then.')
param privateNetwork bool

@description('True puts a lock on the vault, so that it is not deleted by mistake.')
param deleteLock bool

@description('Principal of the functions.')
param functionsPrincipalId string

@description('Principal of the person or group who restores; empty for none.')
param operatorPrincipalId string

@description('What the operator is.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param operatorPrincipalType string

var roles = loadJsonContent('../roles.json')

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    publicNetworkAccess: privateNetwork ? 'Disabled' : 'Enabled'
    networkAcls: {
      defaultAction: privateNetwork ? 'Deny' : 'Allow'
      bypass: 'AzureServices'
    }
  }
}

// A new passphrase would open nothing, so one that is there is never written again.
@onlyIfNotExists()
resource secret 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = {
  parent: vault
  name: 'firn-passphrase'
  properties: {
    value: passphrase
    contentType: 'Passphrase of the Firn repository. Keep a copy elsewhere.'
  }
}

@onlyIfNotExists()
resource key 'Microsoft.KeyVault/vaults/keys@2023-07-01' = if (wrappingKey) {
  parent: vault
  name: 'firn-wrapping-key'
  properties: {
    kty: 'RSA'
    keySize: 3072
    keyOps: ['wrapKey', 'unwrapKey']
  }
}

resource lock 'Microsoft.Authorization/locks@2020-05-01' = if (deleteLock) {
  name: 'keep-the-passphrase'
  scope: vault
  properties: {
    level: 'CanNotDelete'
    notes: 'Holds the passphrase of the archive. Remove this lock only to delete the archive for good.'
  }
}

// The app setting FIRN_PASSPHRASE is a reference that is resolved as the functions: this one secret, nothing else.
resource functionsPassphrase 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(secret.id, functionsPrincipalId, 'Key Vault Secrets User')
  scope: secret
  properties: {
    principalId: functionsPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Key Vault Secrets User'])
  }
}

// The functions may wrap and unwrap with the optional key.
resource functionsKey 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (wrappingKey) {
  name: guid(vault.id, 'firn-wrapping-key', functionsPrincipalId, 'Key Vault Crypto User')
  scope: key
  properties: {
    principalId: functionsPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Key Vault Crypto User'])
  }
}

// The operator reads the passphrase, to restore on a machine of their own and to keep a copy.
resource operatorPassphrase 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorPrincipalId)) {
  name: guid(secret.id, operatorPrincipalId, 'Key Vault Secrets User')
  scope: secret
  properties: {
    principalId: operatorPrincipalId
    principalType: operatorPrincipalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Key Vault Secrets User'])
  }
}

@description('Resource id.')
output id string = vault.id

@description('Name of the vault.')
output name string = vault.name

@description('Address of the passphrase, without a version: a new version is taken up.')
output passphraseSecretUri string = '${vault.properties.vaultUri}secrets/${secret.name}'
