// A user-assigned identity: it is there before what uses it, so roles are given before the app starts.

@description('Name of the identity.')
param name string

@description('Region.')
param location string

@description('Tags of all resources.')
param tags object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: name
  location: location
  tags: tags
}

@description('Resource id.')
output id string = identity.id

@description('Who roles are given to.')
output principalId string = identity.properties.principalId

@description('What the app says to sign in as it.')
output clientId string = identity.properties.clientId
