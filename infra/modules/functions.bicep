// The plan and the function app (Flex Consumption). Settings that this plan forbids, such as FUNCTIONS_WORKER_RUNTIME or
// WEBSITE_RUN_FROM_PACKAGE, have their places in functionAppConfig. No setting holds a key.

@description('Ending of the names.')
param token string

@description('Region.')
param location string

@description('Tags of all resources.')
param tags object

@description('Version of Node.js.')
@allowed(['22', '24'])
param nodeVersion string

@description('Memory of an instance in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int

@description('Instances at most, of all functions together.')
param maximumInstanceCount int

@description('Instances that always run for the orchestrations.')
param durableAlwaysReady int

@description('Subnet through which the app reaches everything; empty for none.')
param subnetId string

@description('Resource id of the identity of the functions.')
param identityId string

@description('Client id of the same identity.')
param identityClientId string

@description('Name of the storage account of the host.')
param hostStorageName string

@description('Where the package of the app lies.')
param packageUri string

@description('Address of the blobs of the archive.')
param archiveBlobEndpoint string

@description('Address of the queues of the archive.')
param archiveQueueEndpoint string

@description('Address of the passphrase in the vault.')
param passphraseSecretUri string

@description('Where telemetry is sent to.')
param applicationInsightsConnection string

@description('Settings of Firn: docs/operations.md.')
param firnSettings object

var connections = {
  // Of the host itself.
  AzureWebJobsStorage__accountName: hostStorageName
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  // Of the triggers and outputs, and of Firn's own code.
  FIRN_STORAGE__blobServiceUri: archiveBlobEndpoint
  FIRN_STORAGE__queueServiceUri: archiveQueueEndpoint
  FIRN_STORAGE__credential: 'managedidentity'
  FIRN_STORAGE__clientId: identityClientId
  FIRN_PASSPHRASE: '@Microsoft.KeyVault(SecretUri=${passphraseSecretUri})'
  APPLICATIONINSIGHTS_CONNECTION_STRING: applicationInsightsConnection
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'plan-firn-${token}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: 'func-firn-${token}'
  location: location
  // By this tag azd finds where the service of azure.yaml goes.
  tags: union(tags, { 'azd-service-name': 'functions' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identityId
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      minTlsVersion: '1.2'
    }
    functionAppConfig: {
      runtime: {
        name: 'node'
        version: nodeVersion
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageUri
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: durableAlwaysReady == 0
          ? []
          : [
              {
                name: 'durable'
                instanceCount: durableAlwaysReady
              }
            ]
      }
    }
  }

  resource settings 'config' = {
    name: 'appsettings'
    properties: union(firnSettings, connections)
  }

  // Deploying needs an identity, too: no publishing passwords.
  resource ftp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: {
      allow: false
    }
  }

  resource scm 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: {
      allow: false
    }
  }
}

@description('Name of the function app.')
output name string = app.name

@description('Address of the function app.')
output url string = 'https://${app.properties.defaultHostName}'
