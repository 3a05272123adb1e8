// What somebody has to look at. docs/operations.md says of each alert what it means and what to do. The queries look for
// what the functions log; test/infra checks that they do log it.

@description('Ending of the names.')
param token string

@description('Region.')
param location string

@description('Tags of all resources.')
param tags object

@description('Where the logs are.')
param workspaceId string

@description('The event topic.')
param eventTopicId string

@description('Who gets a mail; empty for nobody: alerts then only show in the portal.')
param email string

var logAlerts = [
  {
    name: 'batch-failed'
    description: 'A batch could not be archived five times and is in the poison queue.'
    severity: 1
    query: 'AppTraces | where Message has "FIRN_BATCH_FAILED"'
    windowSize: 'PT15M'
    evaluationFrequency: 'PT15M'
  }
  {
    name: 'upload-not-recorded'
    description: 'The event of an upload failed five times and is in the poison queue of the blob trigger.'
    severity: 1
    query: 'AppTraces | where Message has "webjobs-blobtrigger-poison"'
    windowSize: 'PT15M'
    evaluationFrequency: 'PT15M'
  }
  {
    name: 'publish-failed'
    description: 'A source could not be published.'
    severity: 2
    query: 'AppTraces | where Message has "FIRN_PUBLISH_FAILED"'
    windowSize: 'PT15M'
    evaluationFrequency: 'PT15M'
  }
  {
    name: 'repair-failed'
    description: 'The chunk index could not be checked or repaired.'
    severity: 2
    query: 'AppTraces | where Message has "FIRN_REPAIR_FAILED"'
    windowSize: 'PT1H'
    evaluationFrequency: 'PT1H'
  }
  {
    name: 'data-damaged'
    description: 'Stored data is damaged or missing: records of the journal, or chunks that an upload needs.'
    severity: 1
    query: 'AppTraces | where Message has "FIRN_JOURNAL_DAMAGED" or Message has "FIRN_UPLOAD_KEPT"'
    windowSize: 'PT1H'
    evaluationFrequency: 'PT15M'
  }
  {
    name: 'snapshot-old'
    description: 'A source has had no new snapshot for FIRN_SNAPSHOT_AGE_DAYS_MAX days.'
    severity: 2
    query: 'AppTraces | where Message has "FIRN_SNAPSHOT_OLD"'
    windowSize: 'P1D'
    evaluationFrequency: 'PT6H'
  }
]

resource mail 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(email)) {
  name: 'ag-firn-${token}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'firn'
    enabled: true
    emailReceivers: [
      {
        name: 'operator'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

var actionGroups = empty(email) ? [] : [mail.id]

resource logged 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = [
  for alert in logAlerts: {
    name: 'firn-${alert.name}-${token}'
    location: location
    tags: tags
    properties: {
      displayName: 'Firn: ${alert.name}'
      description: alert.description
      severity: alert.severity
      enabled: true
      scopes: [workspaceId]
      evaluationFrequency: alert.evaluationFrequency
      windowSize: alert.windowSize
      // The tables are empty when this is deployed for the first time.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: alert.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      actions: {
        actionGroups: actionGroups
      }
    }
  }
]

// The others look for what is logged; this one for the silence when nothing runs any more.
resource silent 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = {
  name: 'firn-not-running-${token}'
  location: location
  tags: tags
  properties: {
    displayName: 'Firn: not-running'
    description: 'The timer of sealBatches has not run for an hour: nothing is archived.'
    severity: 1
    enabled: true
    scopes: [workspaceId]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT1H'
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: 'AppRequests | where Name == "sealBatches" | summarize Runs = count()'
          metricMeasureColumn: 'Runs'
          timeAggregation: 'Total'
          operator: 'LessThan'
          threshold: 1
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: actionGroups
    }
  }
}

resource undelivered 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: 'firn-event-undelivered-${token}'
  location: 'global'
  tags: tags
  properties: {
    description: 'Event Grid gave up on the event of an upload, which is therefore in the inbox and not in the archive.'
    severity: 1
    enabled: true
    scopes: [eventTopicId]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT1H'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'dead-lettered'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: 'Microsoft.EventGrid/systemTopics'
          metricName: 'DeadLetteredCount'
          operator: 'GreaterThan'
          threshold: 0
          timeAggregation: 'Total'
        }
      ]
    }
    actions: empty(email) ? [] : [{ actionGroupId: mail.id }]
  }
}
