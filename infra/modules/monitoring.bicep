// Log Analytics and Application Insights. Nobody sends telemetry with a key: only identities that have the role.

@description('Ending of the names.')
param token string

@description('Region.')
param location string

@description('Tags of all resources.')
param tags object

@description('Days for which logs are kept.')
param retentionDays int

@description('Principal of the functions.')
param functionsPrincipalId string

var roles = loadJsonContent('../roles.json')

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: 'log-firn-${token}'
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: retentionDays
    features: {
      disableLocalAuth: true
    }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-firn-${token}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

// The functions send logs, metrics and traces; with this role they cannot read any.
resource functionsTelemetry 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, functionsPrincipalId, 'Monitoring Metrics Publisher')
  scope: insights
  properties: {
    principalId: functionsPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Monitoring Metrics Publisher'])
  }
}

@description('Where the logs are.')
output workspaceId string = workspace.id

@description('Where telemetry is sent to. It holds no secret: sending needs an identity.')
output connectionString string = insights.properties.ConnectionString
